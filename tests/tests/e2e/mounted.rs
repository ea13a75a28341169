//! Builds of the filter that an Envoy in Kubernetes gets as a mounted Secret.

use std::{
    fs,
    path::{Path, PathBuf},
};

use envoy::{
    build::Build,
    edge::{Edge, EdgeError},
    render::Rendering,
};
use harness::{backend_settings::PROOF, mounted_secret::MountedSecret, stack::DrainedEnvoy, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Fixture, eventually};

/// A stack whose Envoy watches a mounted Secret.
struct Mounted {
    fixture: Fixture,
    secret: MountedSecret,
    rendered: TempDir,
    edge: Edge,
}

impl Mounted {
    async fn start() -> Self {
        let rendered = tempfile::tempdir().unwrap();
        fs::write(rendered.path().join("filter.json"), "{}").unwrap();
        let mut secret = MountedSecret::mount(rendered.path()).unwrap();
        render(rendered.path(), secret.path(), &build(0));
        secret.update(&rendered.path().join("filter")).unwrap();
        let mount = secret.path().display().to_string();
        let fixture = Fixture::start_with(|mut options| {
            options.bootstrap = vec![("filter_file", format!("{mount}/filter.json")), ("filter_directory", mount)];
            options
        })
        .await;
        let edge = Edge { url: fixture.stack.envoy_admin_url() };
        Self { fixture, secret, rendered, edge }
    }

    /// Renders a build and returns its name.
    fn render(&self, build: &Build) -> String {
        render(self.rendered.path(), self.secret.path(), build)
    }

    /// The directory with the files of the Secret that was rendered last.
    fn files(&self) -> PathBuf {
        self.rendered.path().join("filter")
    }

    /// Does what the kubelet does after the Secret was changed.
    fn update(&mut self) {
        self.secret.update(&self.rendered.path().join("filter")).unwrap();
    }

    async fn serves(&self, name: &str) {
        eventually("the build serves", async || self.edge.probe().is_ok_and(|serving| serving == name)).await;
    }

    /// The number of updates that Envoy has read without objection since it started.
    async fn successes(&self) -> u64 {
        let metrics = self.fixture.stack.envoy_metrics().await.unwrap();
        metrics.sum("envoy_extension_config_discovery_http_filter_truenroll_filter_update_success", &[])
    }

    /// Waits until Envoy has rejected this many updates since it started.
    async fn has_rejected(&self, updates: u64) {
        eventually("Envoy rejects the update", async || self.edge.rejected_updates() == Ok(updates)).await;
    }
}

/// Renders a build to `folder/rendered`, and does what Kustomize does: writes the Secret's files to
/// `folder/filter`.
fn render(folder: &Path, mount: &Path, build: &Build) -> String {
    let rendering = Rendering { out: folder.join("rendered"), mount: mount.to_owned(), rehearse_with: None };
    let (name, _) = rendering.render(build).unwrap();
    let kustomization = fs::read_to_string(rendering.out.join("kustomization.yaml")).unwrap();
    let (_, listed) = kustomization.split_once("  files:\n").unwrap();
    let files = folder.join("filter");
    _ = fs::remove_dir_all(&files);
    fs::create_dir(&files).unwrap();
    for line in listed.lines() {
        let entry = line.trim_start().strip_prefix("- ").unwrap();
        let (key, file) = entry.split_once('=').unwrap_or((entry, entry));
        fs::copy(rendering.out.join(file), files.join(key)).unwrap();
    }
    name
}

/// A build that differs from the others in its settings, and in a custom section of its module.
fn build(number: u8) -> Build {
    let mut module = fs::read(tools::wasm_filter().unwrap()).unwrap();
    module.extend([0, 3, 1, b'n', number]);
    Build { module, policy: json!({ "max_body_bytes": 10_000 + u32::from(number) }), proof: PROOF.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_swapped_under_load_by_updates_of_a_mounted_secret() {
    let mut mounted = Mounted::start().await;
    let steady = mounted.fixture.steady("mounted");
    let mut names = Vec::new();
    for number in 1..=6 {
        names.push(mounted.render(&build(number)));
        mounted.update();
        mounted.serves(&names[names.len() - 1]).await;
        let sent = steady.sent();
        eventually("there is traffic", async || steady.sent() > sent + 10).await;
    }
    let report = mounted.fixture.all_accepted_and_delivered(steady).await;
    assert_eq!(mounted.edge.rejected_updates(), Ok(0));
    for name in names {
        let line = format!("\"build\":\"{name}\"");
        eventually("each build has judged events", async || mounted.fixture.stack.envoy.log().contains(&line)).await;
    }
    tools::say(&format!(
        "6 swaps by a mounted Secret under {} events, 0 rejected; the longest answer took {:?}",
        report.sent, report.longest
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_build_in_a_mounted_secret_is_rejected_and_the_last_good_one_serves() {
    let mut mounted = Mounted::start().await;
    let good = mounted.render(&build(1));
    mounted.update();
    mounted.serves(&good).await;
    let steady = mounted.fixture.steady("broken");

    mounted.render(&build(2));
    let module = module(&mounted.files());
    fs::write(&module, b"\0asm\x01\0\0\0 damaged").unwrap();
    mounted.update();
    mounted.has_rejected(1).await;

    mounted.render(&build(3));
    change(&mounted.files().join("filter.json"), "max_body_bytes", "max_body_bites");
    mounted.update();
    mounted.has_rejected(2).await;

    let sent = steady.sent();
    eventually("there is traffic", async || steady.sent() > sent + 10).await;
    assert_eq!(mounted.edge.probe(), Ok(good.clone()));
    let better = mounted.render(&build(4));
    mounted.update();
    mounted.serves(&better).await;
    mounted.fixture.all_accepted_and_delivered(steady).await;
    let log = mounted.fixture.stack.envoy.log();
    assert!(log.contains("max_body_bites"), "{log}");
}

/// This is why module and resource are in one Secret: a kubelet may update a second object later.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_arrives_before_its_module_stays_rejected() {
    let mut mounted = Mounted::start().await;
    let old = mounted.edge.probe().unwrap();
    mounted.render(&build(1));
    let module = module(&mounted.files());
    let elsewhere = mounted.rendered.path().join("module");
    fs::rename(&module, &elsewhere).unwrap();
    mounted.update();
    mounted.has_rejected(1).await;
    let successes = mounted.successes().await;
    fs::rename(&elsewhere, &module).unwrap();
    mounted.update();
    // Envoy reads the same resource again, finds no change, and counts that as a success.
    eventually("Envoy has read the resource again", async || mounted.successes().await == successes + 1).await;
    assert_eq!(mounted.edge.probe(), Ok(old));
    let new = mounted.render(&build(2));
    mounted.update();
    mounted.serves(&new).await;
    assert_eq!(mounted.edge.rejected_updates(), Ok(1));
}

/// This is why the pods of Envoy have a startup probe: `/ready` alone would let an Envoy without a
/// filter take traffic.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_starts_with_a_broken_build_is_not_ready() {
    let mut mounted = Mounted::start().await;
    assert_eq!(mounted.edge.ready(), Ok(()));
    mounted.render(&build(1));
    fs::remove_file(module(&mounted.files())).unwrap();
    mounted.update();
    let started = DrainedEnvoy::start(&mounted.fixture.stack, "broken", 10).unwrap();
    let client = harness::simulator::sender::client();
    assert_eq!(client.get(started.ready()).send().await.unwrap().status(), 200);
    assert_eq!(client.post(started.webhook()).body("{}").send().await.unwrap().status(), 500);
    let edge = Edge { url: started.ready().trim_end_matches("/ready").to_owned() };
    assert!(matches!(edge.ready(), Err(EdgeError::Unexpected(_))), "{:?}", edge.ready());
    assert_eq!(mounted.edge.ready(), Ok(()), "the running Envoy keeps its build");
}

/// The module among rendered files.
fn module(files: &Path) -> PathBuf {
    let mut paths = fs::read_dir(files).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "wasm")).unwrap()
}

/// Replaces a text in a JSON file, where quotation marks within strings are escaped.
fn change(file: &Path, old: &str, new: &str) {
    let json = fs::read_to_string(file).unwrap();
    assert!(json.contains(old), "{json}");
    let changed: Value = serde_json::from_str(&json.replace(old, new)).unwrap();
    fs::write(file, changed.to_string()).unwrap();
}
