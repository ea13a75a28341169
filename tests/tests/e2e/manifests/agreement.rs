//! The manifests and examples agree with the programs that read them, the Compose file and the version.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use envelope::filter_settings::Settings;
use harness::{backend_settings::SINK_SECRET, tools};
use serde_json::{Value, json};

use super::{RENDERED, TOKEN, compose, list, text};
use crate::traces::STRANGER;

#[test]
fn the_backend_accepts_its_settings() {
    let (copy, production, demo) = &*RENDERED;
    let backend = tools::workspace_binary("backend", "backend", &[]).unwrap();
    for (rendered, overlay) in [(production, "production"), (demo, "demo")] {
        let folder = tempfile::tempdir().unwrap();
        let secrets = if overlay == "demo" { "demo.env" } else { "secrets.env" };
        let secrets = fs::read_to_string(copy.folder("overlays").join(overlay).join(secrets)).unwrap();
        for line in secrets.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = match (name, value) {
                ("api_key", "") => "key",
                ("sink_secret", "") => SINK_SECRET,
                _ => value,
            };
            fs::write(folder.path().join(name), value).unwrap();
        }
        fs::write(folder.path().join("proof"), "0123456789abcdef").unwrap();
        fs::write(folder.path().join("policy.toml"), "").unwrap();
        let mut check = Command::new(&backend);
        check.arg("check").env_clear();
        for (name, value) in rendered.environment("backend") {
            let here =
                |folder_in_container: &str| value.replace(folder_in_container, &folder.path().display().to_string());
            let value = match name.as_str() {
                "BACKEND__RECONCILER__POLICY_FILE" => here("/etc/edge"),
                "BACKEND__PARTNER_API__SPOOL_FOLDER" => here("/var/spool/backend"),
                _ => here("/etc/backend/secrets"),
            };
            check.env(name, value);
        }
        let output = check.output().unwrap();
        assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_demonstration_has_the_values_of_the_compose_file() {
    let (copy, _, demo) = &*RENDERED;
    let root = fs::read_to_string(tools::workspace().join("demo.env")).unwrap();
    let value = |text: &str, name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        found.unwrap_or_else(|| panic!("{name} is not set"))
    };
    let read = |file: &str| fs::read_to_string(copy.folder("overlays/demo").join(file)).unwrap();
    let (backend, simulator) = (read("demo.env"), read("simulator.env"));
    for (name, compose) in [("SIM_API_KEY", "TRUENROLL_API_KEY"), ("SIM_SINK_SECRET", "SINK_SECRET")] {
        assert_eq!(value(&simulator, name), value(&root, compose));
    }
    assert_eq!(value(&simulator, "SIM_WEBHOOK_TOKEN"), value(&root, "WEBHOOK_TOKEN"));
    assert_eq!(value(&root, "WEBHOOK_TOKEN"), TOKEN);
    assert_eq!(value(&backend, "api_key"), value(&simulator, "SIM_API_KEY"));
    assert_eq!(value(&backend, "sink_secret"), value(&simulator, "SIM_SINK_SECRET"));
    let environment = demo.environment("backend");
    assert_eq!(environment["BACKEND__PARTNER_API__BASE_URL"], value(&root, "TRUENROLL_BASE_URL"));
    assert_eq!(environment["BACKEND__SINK__URL"], value(&root, "SINK_URL"));
}

#[test]
fn names_and_images_agree_with_the_compose_file_and_the_version() {
    let (_, production, demo) = &*RENDERED;
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for (workload, pod) in demo.pods() {
        let service = services.get(workload).unwrap_or_else(|| panic!("docker-compose.yml has no {workload}"));
        let image = text(&pod["containers"][0]["image"]);
        match service["image"].as_str() {
            Some(upstream) => assert_eq!(image, upstream),
            None => assert_eq!(image, format!("truenroll-edge-{workload}:{}", env!("CARGO_PKG_VERSION"))),
        }
    }
    for (workload, pod) in production.pods() {
        let image = format!("registry.example/truenroll-edge-{workload}:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(pod["containers"][0]["image"], image);
    }
    let shared = |environment: &BTreeMap<String, String>| -> BTreeSet<String> { environment.keys().cloned().collect() };
    let kubernetes = shared(&production.environment("backend"));
    for name in services["backend"]["environment"].as_object().unwrap().keys() {
        let is_set = kubernetes.contains(name) || kubernetes.contains(&format!("{name}_FILE"));
        // The first has a default that is right in production. As for the second, backends may not
        // connect to Envoy's operators' listener. The third is for our bootstrap only, and the same
        // manifests may be used with Envoy Gateway or Istio.
        let may_be_left_out =
            ["BACKEND__PARTNER_API__BASE_URL", "BACKEND__DOCTOR__ENVOY_URL", "BACKEND__TELEMETRY__CONTINUE_TRACES"];
        assert!(is_set || may_be_left_out.contains(&name.as_str()), "Kubernetes does not set {name}");
    }
}

#[test]
fn pods_get_the_time_that_they_need_to_stop() {
    let (_, production, _) = &*RENDERED;
    let seconds = |workload: &str| production.pods()[workload]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let command = list(&production.pods()["envoy"]["containers"][0]["command"]);
    let drain = command.iter().position(|argument| argument == "--drain-seconds").unwrap();
    let drain: u64 = text(&command[drain + 1]).parse().unwrap();
    assert!(seconds("envoy") >= drain + 5, "guardctl kills Envoy 5 s after the drain");
    // `shutdown.grace_ms`, `ingest.store_timeout_ms`, 3 s, and 2 s to export traces.
    assert!(seconds("backend") >= 28);
}

/// The filter's configuration in an example, wherever the example has it.
fn configurations(value: &Value) -> Vec<String> {
    let is_configuration = |value: &Value| value.get("proof").is_some() && value.get("build").is_some();
    match value {
        Value::Object(object) if is_configuration(value) => vec![json!(object).to_string()],
        Value::Object(object) => object.values().flat_map(configurations).collect(),
        Value::Array(values) => values.iter().flat_map(configurations).collect(),
        Value::String(text) => serde_json::from_str(text).map_or_else(
            |_| Vec::new(),
            |inner| match inner {
                Value::Object(_) => configurations(&inner),
                _ => Vec::new(),
            },
        ),
        _ => Vec::new(),
    }
}

#[test]
fn the_examples_remove_the_headers_of_a_strangers_trace() {
    let removed = json!(STRANGER.map(|(name, _)| name));
    for (file, kind, path) in [
        ("istio.yaml", "VirtualService", "/spec/http/0/headers/request/remove"),
        ("envoy-gateway.yaml", "HTTPRoute", "/spec/rules/0/filters/0/requestHeaderModifier/remove"),
    ] {
        let resources = tools::yaml(&tools::workspace().join("deploy/kubernetes/examples").join(file)).unwrap();
        let route = resources.iter().find(|resource| resource["kind"] == kind).unwrap();
        assert_eq!(route.pointer(path), Some(&removed), "{file}");
    }
}

#[test]
fn the_filter_accepts_the_configuration_in_each_example() {
    let folder = tools::workspace().join("deploy/kubernetes/examples");
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let configurations: Vec<_> = tools::yaml(&file).unwrap().iter().flat_map(configurations).collect();
        assert_eq!(configurations.len(), 1, "{}", file.display());
        let settings = Settings::parse(configurations[0].as_bytes());
        assert!(settings.is_ok(), "{}: {settings:?}", file.display());
    }
}

#[test]
fn files_with_secrets_are_not_part_of_the_repository() {
    let production = tools::workspace().join("deploy/kubernetes/overlays/production");
    let ignored = fs::read_to_string(production.join(".gitignore")).unwrap();
    let kustomization = tools::yaml(&production.join("kustomization.yaml")).unwrap().remove(0);
    let generator = &kustomization["secretGenerator"][0];
    for file in list(&generator["envs"]).iter().chain(list(&generator["files"])) {
        assert!(ignored.lines().any(|line| Path::new(line) == Path::new("/").join(text(file))), "{file}");
    }
    assert!(ignored.lines().any(|line| line == "/filter"));
}
