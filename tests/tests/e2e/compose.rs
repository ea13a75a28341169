//! The Compose file agrees with `.env.example` and docs/OPERATIONS.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use harness::tools;

/// What a variable has if `.env` does not set it; `None` if it must be set.
type Defaults = BTreeMap<String, Option<String>>;

fn read(file: &str) -> String {
    fs::read_to_string(tools::workspace().join(file)).unwrap()
}

/// The variables of the Compose file. One that must be set may have an empty default elsewhere.
fn in_compose_file(text: &str) -> Defaults {
    let mut defaults = Defaults::new();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    for variable in lines.flat_map(|line| line.split("${").skip(1)) {
        let (variable, _) = variable.split_once('}').unwrap();
        let is_end = |character: char| !character.is_ascii_uppercase() && character != '_';
        let (name, rest) = variable.split_at(variable.find(is_end).unwrap_or(variable.len()));
        let default = rest.strip_prefix(":-").map(str::to_owned);
        assert!(default.is_some() || rest.starts_with(":?"), "{name} has neither a default nor an explanation");
        let known = defaults.entry(name.to_owned()).or_insert_with(|| default.clone());
        *known = known.take().and(default);
    }
    defaults
}

/// The variables in a table whose first column has this heading.
fn in_page(text: &str, heading: &str) -> Defaults {
    let heading = format!("| {heading} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&heading)).skip(2);
    let row = |line: &str| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned());
        let (name, default) = (cells.next().unwrap(), cells.next().unwrap());
        let default = match default.as_str() {
            "required" => None,
            "none" => Some(String::new()),
            _ => Some(default),
        };
        (name, default)
    };
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

/// The variables that `.env.example` sets or shows as a comment.
fn in_example(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| Some(line.strip_prefix('#').unwrap_or(line).split_once('=')?.0));
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    names.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn the_variables_and_their_defaults_are_documented() {
    let mut compose = in_compose_file(&read("docker-compose.yml"));
    compose.retain(|name, _| !name.starts_with("DEMO_"));
    let console = in_compose_file(&read("deploy/compose/console.yml"));
    assert_eq!(compose["WEBHOOK_TOKEN"], None);
    assert_eq!(compose["EDGE_PORT"].as_deref(), Some("8080"));
    let page = read("docs/OPERATIONS.md");
    assert_eq!(in_page(&page, "variable"), compose, "docs/OPERATIONS.md and docker-compose.yml");
    assert_eq!(in_page(&page, "variable of the console"), console, "docs/OPERATIONS.md and console.yml");
    let monitoring = in_compose_file(&read("deploy/compose/monitoring.yml"));
    assert_eq!(in_page(&page, "variable of the monitoring"), monitoring, "docs/OPERATIONS.md and monitoring.yml");
    let all = [compose, console, monitoring].into_iter().flat_map(BTreeMap::into_keys);
    let all: BTreeSet<_> = all.chain(["COMPOSE_FILE".to_owned()]).collect();
    assert_eq!(in_example(&read(".env.example")), all, ".env.example and the Compose files");
}

#[test]
fn the_monitoring_is_as_hardened_as_the_rest_and_listens_on_loopback() {
    let compose = tools::yaml(&tools::workspace().join("docker-compose.yml")).unwrap().remove(0);
    let monitoring = tools::yaml(&tools::workspace().join("deploy/compose/monitoring.yml")).unwrap().remove(0);
    for (name, service) in monitoring["services"].as_object().unwrap() {
        for (setting, value) in compose["x-common"].as_object().unwrap() {
            assert_eq!(&service[setting], value, "{name}: {setting}");
        }
        assert!(service["mem_limit"].is_string() && service["user"].is_string(), "{name}");
        for port in service["ports"].as_array().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn only_folders_are_mounted() {
    let services = ["docker-compose.yml", "deploy/compose/monitoring.yml"].map(|file| {
        let compose = tools::yaml(&tools::workspace().join(file)).unwrap().remove(0);
        compose["services"].as_object().unwrap().clone()
    });
    let mut mounted = 0;
    for service in services.iter().flat_map(|services| services.values()) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                // A container that has mounted a file keeps the old one when an editor replaces it.
                assert!(tools::workspace().join(source).is_dir(), "{source} is not a folder");
                mounted += 1;
            }
        }
    }
    assert!(mounted > 0);
}
