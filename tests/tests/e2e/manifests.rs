//! The manifests for Kubernetes: Kustomize renders them, they are valid, they agree with the other
//! files ([`agreement`]), and a new build of the filter changes nothing but its Secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    sync::LazyLock,
};

use envoy::{
    bootstrap::{Bootstrap, SHIPPED},
    build::Build,
    render::Rendering,
};
use harness::tools;
use serde_json::{Value, json};
use tempfile::TempDir;

mod agreement;

/// The oldest and the newest version of Kubernetes whose schemas the manifests must satisfy.
const VERSIONS: [&str; 2] = ["1.29.0", "1.37.0"];
const TOKEN: &str = "a-token-that-the-simulator-knows";

/// A copy of `deploy/kubernetes`, with the files that docs/KUBERNETES.md tells you to write.
struct Copy(TempDir);

/// Rendered resources, as YAML in a file, and parsed.
struct Rendered {
    file: PathBuf,
    resources: Vec<Value>,
}
impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        let source = tools::workspace().join("deploy/kubernetes");
        let status = Command::new("cp").arg("-r").arg(source).arg(copy.0.path().join("k")).status();
        assert!(status.unwrap().success());
        let production = copy.folder("overlays/production");
        fs::copy(production.join("secrets.env.example"), production.join("secrets.env")).unwrap();
        fs::copy(tools::workspace().join("envoy/policy.toml"), production.join("policy.toml")).unwrap();
        fs::write(production.join("proof"), "0123456789abcdef").unwrap();
        for overlay in ["overlays/production", "overlays/demo"] {
            copy.render_filter(overlay, b"1");
        }
        copy
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join("k").join(name)
    }

    /// Does what `guardctl render` does.
    fn render_filter(&self, overlay: &str, module: &[u8]) {
        let proof = fs::read_to_string(self.folder(overlay).join("proof")).unwrap();
        let policy = json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } });
        let build = Build { module: [b"\0asm", module].concat(), policy, proof };
        let mount = PathBuf::from("/var/lib/edge/ecds");
        Rendering { out: self.folder(overlay).join("filter"), mount, rehearse_with: None }.render(&build).unwrap();
    }

    fn kustomize(&self, overlay: &str) -> Rendered {
        let file = self.0.path().join("rendered.yaml");
        fs::write(&file, tools::kustomize(&self.folder(overlay)).unwrap()).unwrap();
        Rendered { resources: tools::yaml(&file).unwrap(), file }
    }

    /// Enables the component that the production overlay leaves out.
    fn enable_tls(&self) {
        let file = self.folder("overlays/production/kustomization.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let enabled = text.replace("#components:\n#- ../../components/tls", "components:\n- ../../components/tls");
        assert_ne!(enabled, text);
        fs::write(file, enabled).unwrap();
    }
}
impl Rendered {
    fn get(&self, kind: &str, name: &str) -> &Value {
        // The names of generated objects end with a hash.
        let is_named = |own: &str| own == name || own.rsplit_once('-').is_some_and(|(stem, _)| stem == name);
        let found = self
            .resources
            .iter()
            .find(|resource| resource["kind"] == kind && resource["metadata"]["name"].as_str().is_some_and(is_named));
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The pod templates with the names of their workloads.
    fn pods(&self) -> BTreeMap<&str, &Value> {
        let workloads = self.resources.iter().filter(|resource| resource["spec"]["template"].is_object());
        workloads.map(|resource| (text(&resource["metadata"]["name"]), &resource["spec"]["template"]["spec"])).collect()
    }

    /// The environment of a workload's container, with its references to other variables resolved.
    fn environment(&self, workload: &str) -> BTreeMap<String, String> {
        let container = &self.pods()[workload]["containers"][0];
        let mut variables = BTreeMap::from([("NAMESPACE".to_owned(), "truenroll-edge".to_owned())]);
        for source in list(&container["envFrom"]) {
            let map = self.get("ConfigMap", text(&source["configMapRef"]["name"]));
            for (name, value) in map["data"].as_object().unwrap() {
                variables.insert(name.clone(), text(value).to_owned());
            }
        }
        for variable in list(&container["env"]).iter().filter(|variable| variable["value"].is_string()) {
            let mut value = text(&variable["value"]).to_owned();
            for (name, known) in &variables {
                value = value.replace(&format!("$({name})"), known);
            }
            variables.insert(text(&variable["name"]).to_owned(), value);
        }
        variables
    }
}
static RENDERED: LazyLock<(Copy, Rendered, Rendered)> = LazyLock::new(|| {
    let copy = Copy::new();
    let (production, demo) = (copy.kustomize("overlays/production"), copy.kustomize("overlays/demo"));
    (copy, production, demo)
});

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text"))
}
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
fn compose() -> Value {
    tools::yaml(&tools::workspace().join("docker-compose.yml")).unwrap().remove(0)
}
#[test]
fn every_overlay_satisfies_the_schemas_of_kubernetes() {
    let copy = Copy::new();
    copy.kustomize("base");
    for step in 0..3 {
        let overlay = ["overlays/demo", "overlays/production", "overlays/production"][step];
        if step == 2 {
            copy.enable_tls();
        }
        let rendered = copy.kustomize(overlay);
        assert!(rendered.resources.len() > 15, "{overlay}");
        for version in VERSIONS {
            tools::validate_resources(&rendered.file, version).unwrap();
        }
    }
    let invalid = copy.kustomize("overlays/demo");
    let yaml = fs::read_to_string(&invalid.file).unwrap();
    fs::write(&invalid.file, yaml.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")).unwrap();
    assert!(tools::validate_resources(&invalid.file, VERSIONS[1]).is_err(), "a wrong field is noticed");
}
#[test]
fn a_new_build_changes_only_the_secret_of_the_filter() {
    let copy = Copy::new();
    let before = copy.kustomize("overlays/production").resources;
    copy.render_filter("overlays/production", b"2");
    let after = copy.kustomize("overlays/production").resources;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
    let [(old, new)] = changed[..] else { panic!("{} resources changed", changed.len()) };
    assert_eq!((&old["kind"], &old["metadata"]), (&json!("Secret"), &new["metadata"]));
    assert_eq!(old["metadata"]["name"], "filter");
    let keys: Vec<_> = new["data"].as_object().unwrap().keys().collect();
    let [module, resource] = keys[..] else { panic!("{keys:?}") };
    assert!(module.ends_with(".wasm"), "{module}");
    assert_eq!(&format!("/var/lib/edge/ecds/{resource}"), shipped("filter_file"));
}
#[test]
fn a_changed_secret_or_setting_of_the_backend_replaces_its_pods() {
    let copy = Copy::new();
    let name = |rendered: &Rendered| rendered.pods()["backend"]["volumes"][0]["secret"]["secretName"].clone();
    let first = name(&copy.kustomize("overlays/production"));
    fs::write(copy.folder("overlays/production/proof"), "fedcba9876543210").unwrap();
    assert_ne!(name(&copy.kustomize("overlays/production")), first);
}
#[test]
fn every_pod_satisfies_the_restricted_pod_security_standard_and_has_no_rights() {
    let (_, production, demo) = &*RENDERED;
    for (name, pod) in production.pods().into_iter().chain(demo.pods()) {
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        for container in list(&pod["containers"]) {
            let security = &container["securityContext"];
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
            });
            assert_eq!(security, &expected, "{name}");
            for resource in ["cpu", "memory"] {
                for bound in ["requests", "limits"] {
                    assert!(container["resources"][bound][resource].is_string(), "{name}: {bound} of {resource}");
                }
            }
        }
    }
    for rendered in [production, demo] {
        let namespace = rendered.get("Namespace", "truenroll-edge");
        assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    }
}
#[test]
fn envoy_accepts_the_settings_in_its_environment_and_finds_the_backend() {
    let (_, production, _) = &*RENDERED;
    let environment = production.environment("envoy");
    let mut bootstrap = Bootstrap::shipped();
    for option in environment["EDGE_ENABLE"].split_whitespace() {
        bootstrap = bootstrap.enable(option).unwrap();
    }
    let mut settings = BTreeMap::new();
    for setting in environment["EDGE_SET"].split_whitespace() {
        let (name, value) = setting.split_once('=').unwrap();
        bootstrap = bootstrap.set(name, value).unwrap();
        settings.insert(name, value);
    }
    let service = production.get("Service", "backend");
    assert_eq!(settings["backend_address"], "backend.truenroll-edge.svc.cluster.local.");
    assert_eq!(
        (&service["spec"]["clusterIP"], text(&service["metadata"]["namespace"])),
        (&json!("None"), "truenroll-edge")
    );

    let copy = Copy::new();
    copy.enable_tls();
    let with_tls = copy.kustomize("overlays/production");
    let option = with_tls.environment("envoy")["EDGE_ENABLE"].clone();
    assert!(Bootstrap::options().contains(option.as_str()), "{option}");
    let pod = with_tls.pods()["envoy"];
    let mount = list(&pod["containers"][0]["volumeMounts"]).iter().find(|mount| mount["name"] == "tls").unwrap();
    let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == "tls").unwrap();
    let certificates = fs::read_to_string(tools::workspace().join("envoy/tls.yaml")).unwrap();
    for item in list(&volume["secret"]["items"]) {
        let path = format!("{}/{}", text(&mount["mountPath"]), text(&item["path"]));
        assert!(certificates.contains(&path), "envoy/tls.yaml does not name {path}");
    }
}
#[test]
fn guardctl_runs_envoy_with_the_command_and_the_environment_of_the_pod() {
    let (_, production, _) = &*RENDERED;
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    let container = &production.pods()["envoy"]["containers"][0];
    let bootstrap = tools::workspace().join("envoy/bootstrap.yaml").display().to_string();
    let words = list(&container["command"]).iter().chain(list(&container["args"])).map(text);
    // Instead of Envoy, a program that prints its arguments.
    let mut words = words.map(|word| match word {
        "/etc/envoy/bootstrap.yaml" => &bootstrap,
        "envoy" => "echo",
        word => word,
    });
    assert_eq!(words.next(), Some("guardctl"));
    let printed = Command::new(&guardctl).args(words).envs(production.environment("envoy")).output().unwrap();
    let printed = String::from_utf8_lossy(&printed.stdout);
    assert!(
        printed.starts_with("--disable-hot-restart --log-level warning --concurrency 2 --config-yaml"),
        "{printed}"
    );
    assert!(printed.contains("address: backend.truenroll-edge.svc.cluster.local. # set"), "{printed}");

    let probe = list(&container["startupProbe"]["exec"]["command"]);
    let is_known = Command::new(&guardctl).args(probe[1..].iter().map(text)).arg("--help").output().unwrap();
    assert!(is_known.status.success(), "{probe:?}");
}
/// The value in the shipped bootstrap that `# set: NAME` marks.
fn shipped(name: &str) -> &'static str {
    let line = SHIPPED.lines().find(|line| line.ends_with(&format!(" # set: {name}"))).unwrap();
    line.split(" # set:").next().unwrap().rsplit(": ").next().unwrap().trim_end_matches(" }")
}
#[test]
fn ports_and_paths_agree_with_the_bootstrap() {
    let (_, production, _) = &*RENDERED;
    let ports = |workload: &str| -> BTreeMap<String, String> {
        let ports = list(&production.pods()[workload]["containers"][0]["ports"]);
        ports.iter().map(|port| (text(&port["name"]).to_owned(), port["containerPort"].to_string())).collect()
    };
    let envoy = ports("envoy");
    assert_eq!((envoy["http"].as_str(), envoy["metrics"].as_str()), (shipped("edge_port"), shipped("metrics_port")));
    let backend = ports("backend");
    assert_eq!(backend["ingest"], shipped("backend_port"));
    let environment = production.environment("backend");
    assert_eq!(environment["BACKEND__INGEST__LISTEN"], format!("0.0.0.0:{}", backend["ingest"]));
    assert_eq!(environment["BACKEND__ADMIN__LISTEN"], format!("0.0.0.0:{}", backend["metrics"]));

    let mounts = list(&production.pods()["envoy"]["containers"][0]["volumeMounts"]);
    let filter = mounts.iter().find(|mount| mount["name"] == "filter").unwrap();
    assert_eq!(filter["mountPath"], shipped("filter_directory"));
    assert_eq!(format!("{}/filter.json", shipped("filter_directory")), shipped("filter_file"));
    assert!(filter.get("subPath").is_none(), "a mount with subPath is never updated");
}
#[test]
fn network_policies_allow_the_ports_that_the_programs_use() {
    let (_, production, demo) = &*RENDERED;
    for rendered in [production, demo] {
        for (workload, pod) in rendered.pods() {
            let declared: BTreeSet<_> = list(&pod["containers"][0]["ports"])
                .iter()
                .map(|port| port["containerPort"].as_u64().unwrap())
                .collect();
            let policy = rendered.get("NetworkPolicy", workload);
            let selector = &policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"];
            assert_eq!(selector, workload);
            let rules = list(&policy["spec"]["ingress"]).iter().flat_map(|rule| list(&rule["ports"]));
            let allowed: BTreeSet<_> = rules.map(|port| port["port"].as_u64().unwrap()).collect();
            assert_eq!(allowed, declared, "{workload}");
        }
    }
    let denied = &production.get("NetworkPolicy", "default-deny")["spec"];
    assert_eq!(denied, &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
}
#[test]
fn services_select_pods_and_name_ports_that_exist() {
    let (_, production, demo) = &*RENDERED;
    for rendered in [production, demo] {
        for service in rendered.resources.iter().filter(|resource| resource["kind"] == "Service") {
            let name = text(&service["spec"]["selector"]["app.kubernetes.io/name"]);
            let ports = list(&rendered.pods()[name]["containers"][0]["ports"]);
            for port in list(&service["spec"]["ports"]) {
                assert!(ports.iter().any(|known| known["name"] == port["targetPort"]), "{name}: {port}");
            }
        }
    }
}
