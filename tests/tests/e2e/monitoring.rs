//! The alerts and dashboards in `deploy/monitoring`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::tools;
use serde_json::Value;

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 4] = ["job", "instance", "alertname", "alertstate"];

/// Metrics with the names of their labels.
pub(crate) type Exposed = BTreeMap<String, BTreeSet<String>>;

/// A query, and what is shown beside it, in which labels are named as `{{…}}`.
struct Query {
    at: String,
    expression: String,
    texts: Vec<String>,
}

fn folder() -> PathBuf {
    tools::workspace().join("deploy/monitoring")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list"))
}

fn alerts() -> Vec<Value> {
    let file = tools::yaml(&folder().join("alerts.yaml")).unwrap().remove(0);
    list(&file["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn of_alerts() -> Vec<Query> {
    let query = |alert: &Value| Query {
        at: text(&alert["alert"]).to_owned(),
        expression: text(&alert["expr"]).to_owned(),
        texts: ["summary", "description"].map(|name| text(&alert["annotations"][name]).replace("$labels.", "")).into(),
    };
    alerts().iter().map(query).collect()
}

fn of_dashboards() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in ["operations.json", "edge.json"] {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap();
        for panel in list(&dashboard["panels"]) {
            let title = text(&panel["title"]);
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(&panel["description"]).is_empty() && !text(&defaults["unit"]).is_empty(), "{title}");
            assert!(!list(&defaults["thresholds"]["steps"]).is_empty(), "{title}");
            queries.extend(list(&panel["targets"]).iter().map(|target| Query {
                at: format!("{name}: {title}"),
                // Grafana replaces the variable.
                expression: text(&target["expr"]).replace("$__rate_interval", "5m"),
                texts: vec![text(&target["legendFormat"]).to_owned()],
            }));
        }
    }
    queries
}

/// The metrics in an expression, with the labels that their selectors name, and the labels by which
/// the expression groups or matches.
fn named(expression: &str) -> (Exposed, BTreeSet<String>) {
    let mut metrics = Exposed::new();
    let mut labels = BTreeSet::new();
    // Every other piece is a text in quotation marks.
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = |text: &str| text.split(|character| !is_word(character)).map(str::to_owned).collect::<Vec<_>>();
    for (at, _) in bare.match_indices(|character: char| character.is_ascii_lowercase()) {
        if bare[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &bare[at..];
        let (word, rest) = rest.split_at(rest.find(|character| !is_word(character)).unwrap_or(rest.len()));
        let in_brackets = |open, close| rest.trim_start().strip_prefix(open)?.split(close).next();
        let is_metric =
            ["truenroll_", "envoy_", "process_"].iter().any(|start| word.starts_with(start)) || word == "up";
        if ["by", "on"].contains(&word) {
            labels.extend(words(in_brackets('(', ')').unwrap()).into_iter().filter(|label| !label.is_empty()));
        } else if is_metric && !labels.contains(word) && !bare[..at].ends_with(['{', ',']) {
            let of_selector = in_brackets('{', '}').unwrap_or_default().split('"').filter(|text| !text.is_empty());
            let of_selector = of_selector.filter_map(|text| words(text).into_iter().find(|label| !label.is_empty()));
            metrics.entry(word.to_owned()).or_default().extend(of_selector);
        }
    }
    (metrics, labels)
}

/// Reads the metrics in the text format of Prometheus.
pub(crate) fn exposed(texts: &[String]) -> Exposed {
    let mut exposed = Exposed::new();
    for line in texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#')) {
        let Some((series, _)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.split("\"").step_by(2).map(|label| label.trim_matches([',', '}', '=']).to_owned());
        exposed.entry(name.to_owned()).or_default().extend(labels.filter(|label| !label.is_empty()));
    }
    exposed
}

/// Asserts that alerts and dashboards name only metrics and labels that exist.
pub(crate) fn assert_named_exist(exposed: &Exposed) {
    let added = OF_PROMETHEUS.map(str::to_owned);
    for Query { at, expression, texts } in of_alerts().into_iter().chain(of_dashboards()) {
        let (metrics, mut labels) = named(&expression);
        assert!(!metrics.is_empty() || expression.contains("ALERTS"), "{at}: no metric in {expression}");
        let mut known: BTreeSet<_> = added.clone().into();
        for (metric, selected) in metrics.into_iter().filter(|(metric, _)| metric != "up") {
            let Some(own) = exposed.get(&metric) else { panic!("{at}: nothing exposes {metric}") };
            for label in selected {
                assert!(own.contains(&label) || added.contains(&label), "{at}: {metric} has no label {label}");
            }
            known.extend(own.iter().cloned());
        }
        let in_braces =
            |text: &String| text.split("{{").skip(1).map(|rest| rest.trim_start().to_owned()).collect::<Vec<_>>();
        let first_word = |rest: String| rest.split([' ', '}']).next().unwrap_or_default().to_owned();
        labels.extend(texts.iter().flat_map(in_braces).map(first_word).filter(|word| word != "$value"));
        for label in labels {
            assert!(known.contains(&label), "{at}: no metric of {expression} has the label {label}");
        }
    }
}

fn promtool(arguments: &[&str], file: &Path) {
    let mut command = Command::new(tools::promtool().unwrap());
    let output = command.args(arguments).arg(file).current_dir(folder()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    promtool(&["check", "rules"], Path::new("alerts.yaml"));
    promtool(&["test", "rules"], Path::new("alerts_test.yaml"));
    let tests = tools::yaml(&folder().join("alerts_test.yaml")).unwrap().remove(0);
    let mut cases: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["promql_expr_test"])) {
        let expression = text(&case["expr"]);
        let name = expression.strip_prefix("ALERTS{alertname=\"").and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(expression, format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}"));
        cases.entry(name.to_owned()).or_default().insert(case.get("exp_samples").is_some());
    }
    let names: Vec<_> = alerts().iter().map(|alert| text(&alert["alert"]).to_owned()).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "two alerts have the same name");
    assert_eq!(cases.keys().collect::<BTreeSet<_>>(), names.iter().collect(), "the alerts that are tested");
    for (name, outcomes) in cases {
        assert_eq!(outcomes.len(), 2, "{name} has a case in which it fires, and one in which it does not");
    }
}

#[test]
fn each_alert_has_a_section_in_the_documentation() {
    let page = fs::read_to_string(tools::workspace().join("docs/OPERATIONS.md")).unwrap();
    let sections: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("#### TruEnroll")).collect();
    let mut named = BTreeSet::new();
    let alerts = alerts();
    for alert in &alerts {
        let name = text(&alert["alert"]);
        assert!(["critical", "warning"].contains(&text(&alert["labels"]["severity"])), "{name}");
        let anchor = format!("docs/OPERATIONS.md#{}", name.to_lowercase());
        assert_eq!(text(&alert["annotations"]["runbook_url"]), anchor);
        named.insert(name.strip_prefix("TruEnroll").unwrap());
    }
    assert_eq!(named, sections);
}

#[test]
fn every_query_of_a_dashboard_is_valid() {
    // promtool checks no queries by themselves, but those of rules.
    let rules = of_dashboards().into_iter().enumerate().map(|(number, query)| {
        format!("  - {{ record: 'query:{number}', expr: {} }}\n", Value::String(query.expression))
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules: String = rules.collect();
    fs::write(&file, format!("groups:\n- name: queries\n  rules:\n{rules}")).unwrap();
    promtool(&["check", "rules"], file.path());
}

#[test]
fn the_configuration_is_valid_and_has_the_jobs_that_the_alerts_name() {
    promtool(&["check", "config"], Path::new("prometheus.yml"));
    let config = tools::yaml(&folder().join("prometheus.yml")).unwrap().remove(0);
    let jobs: Vec<_> = list(&config["scrape_configs"]).iter().map(|job| text(&job["job_name"]).to_owned()).collect();
    assert_eq!(jobs, ["envoy", "backend"]);
}

#[test]
fn names_are_found_in_an_expression() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let (metrics, labels) = named(
        "sum by (code, envoy_c) (rate(truenroll_a_total{code!~\"x|process_y\",envoy_b=\"1\"}[5m]))\n unless on () up == 0",
    );
    assert_eq!(
        metrics,
        [("truenroll_a_total".to_owned(), set(&["code", "envoy_b"])), ("up".to_owned(), set(&[]))].into()
    );
    assert_eq!(labels, set(&["code", "envoy_c"]));
    let text = "# HELP x y\ntruenroll_a_total{code=\"x, y\",envoy_b=\"1\"} 3\nup 1\n".to_owned();
    assert_eq!(exposed(&[text]), metrics);
}
