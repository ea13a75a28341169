//! The filter is replaced under load without a failed request, and builds are rehearsed.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use envoy::{
    build::BuildError,
    ecds,
    publish::{Backends, Outcome, PublishError, Publisher},
    rehearsal::{RehearsalError, rehearse},
};
use harness::{simulator::sender::Answer, tools};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, eventually, resident};

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_swapped_and_rolled_back_under_load_without_a_failed_request() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for worker in 0..4 {
        let sender = fixture.sender.clone();
        let done = Arc::clone(&done);
        let events = fixture.events(&format!("load-{worker}"), 50);
        load.spawn(async move {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                for event in &events {
                    match sender.send(event).await {
                        Answer::Accepted(_) | Answer::Duplicate(_) => answers += 1,
                        answer => panic!("{answer:?}"),
                    }
                }
            }
            answers
        });
    }
    let first = fixture.stack.build(json!({})).unwrap();
    let mut names = Vec::new();
    let figures = async || {
        let active = fixture.stack.envoy_metrics().await.unwrap().sum("envoy_wasm_envoy_wasm_runtime_v8_active", &[]);
        (active, resident(fixture.stack.envoy.pid()) >> 20)
    };
    let before = figures().await;
    for swap in 0..40 {
        let build = fixture.stack.build(json!({ "max_body_bytes": 10_000 + swap })).unwrap();
        let (publication, outcome) = publisher.publish(&build).unwrap();
        assert_eq!(outcome, Outcome::Verified);
        names.push(publication.build);
    }
    let (publication, outcome) = publisher.rollback(None).unwrap();
    assert_eq!((publication.build.as_str(), outcome), (names[38].as_str(), Outcome::Verified));
    let (publication, _) = publisher.rollback(Some(&names[35])).unwrap();
    assert_eq!(publication.build, names[35]);
    publisher.publish(&first).unwrap();
    done.store(true, Ordering::Relaxed);
    let answers: u64 = load.join_all().await.into_iter().sum();
    assert!(answers > 100, "there was load: {answers}");
    eventually("the VMs of the old builds are gone", async || figures().await.0 <= before.0).await;
    let after = figures().await;
    tools::say(&format!(
        "43 swaps under {answers} requests: {} VMs before and {} after, Envoy's memory {} MiB before and {} MiB after",
        before.0, after.0, before.1, after.1
    ));
    assert!(after.1 < before.1 + 100, "Envoy's memory grew from {} to {} MiB", before.1, after.1);
    fixture.delivered_once(200).await;
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    assert_eq!(metrics.sum("envoy_wasm_truenroll_filter_vm_reload_success", &[]), 0, "no VM crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_verified_in_shadow_mode_and_without_a_backend_only_if_requested() {
    let mut fixture = Fixture::start().await;
    let shadow = fixture.stack.build(json!({ "mode": "shadow" })).unwrap();
    let publisher = Publisher { patience: Duration::from_secs(3), ..fixture.stack.publisher().unwrap() };
    assert_eq!(publisher.publish(&shadow).unwrap().1, Outcome::Verified);
    fixture.stack.backend.kill().unwrap();
    let served = publisher.edge.as_ref().unwrap().probe().unwrap();
    let build = fixture.stack.build(json!({ "mode": "shadow", "max_depth": 9 })).unwrap();
    let rejected = publisher.publish(&build);
    assert!(matches!(rejected, Err(PublishError::NoBackend(_))), "{rejected:?}");
    assert_eq!(publisher.edge.as_ref().unwrap().probe().unwrap(), served);
    let publisher = Publisher { backends: Backends::Skip, ..publisher };
    assert_eq!(publisher.publish(&build).unwrap().1, Outcome::Unproven);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_build_is_rejected_and_the_last_good_one_stays() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let served = publisher.edge.as_ref().unwrap().probe().unwrap();

    let mut garbage = fixture.stack.build(json!({})).unwrap();
    garbage.module.truncate(1_000);
    assert!(matches!(publisher.publish(&garbage), Err(PublishError::Rejected { .. })));
    let mut text = fixture.stack.build(json!({})).unwrap();
    text.module = b"not WebAssembly".to_vec();
    assert!(matches!(publisher.publish(&text), Err(PublishError::Build(BuildError::NotWasm))));
    let settings = publisher.publish(&fixture.stack.build(json!({ "max_depth": 1_000 })).unwrap());
    assert!(settings.unwrap_err().to_string().contains("`policy.max_depth`"));

    assert_eq!(publisher.edge.as_ref().unwrap().probe().unwrap(), served);
    let on_disk = std::fs::read_to_string(publisher.store.served_file()).unwrap();
    assert!(on_disk.contains(&served), "a restarted Envoy would serve the good build");
    let event = fixture.events("after", 1).remove(0);
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    // A good build can be published afterwards.
    let good = fixture.stack.build(json!({ "max_depth": 10 })).unwrap();
    assert_eq!(publisher.publish(&good).unwrap().1, Outcome::Verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_rejects_an_invalid_configuration_that_bypassed_the_publisher() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let mut response = publisher.store.publications().unwrap().pop().unwrap().response;
    let settings = &mut response["resources"][0]["typed_config"]["config"]["configuration"]["value"];
    *settings = json!(settings.as_str().unwrap().replace("\"policy\":{}", "\"policy\":{\"max_depht\":8}"));
    publisher.store.serve(&response).unwrap();
    eventually("Envoy has rejected the update", async || publisher.edge.as_ref().unwrap().rejected_updates() == Ok(1))
        .await;
    let log = fixture.stack.envoy.log();
    assert!(log.contains("filter setting `policy.max_depht`: unknown field"), "{log}");
    let event = fixture.events("after", 1).remove(0);
    fixture.send_accepted(&event).await;
}

#[test]
fn a_rehearsal_rejects_a_build_with_wrong_verdicts() {
    let envoy = tools::envoy().unwrap();
    let settings = json!({ "build": "b1", "proof": "0123456789abcdef" });
    let filter = ecds::response("1", &absolute(tools::wasm_filter().unwrap()), &settings);
    assert!(rehearse(&envoy, &filter).unwrap() > 100, "most vectors have the default policy");

    let passive = absolute(tools::wasm_module("buffering", &[]).unwrap());
    let wrong = rehearse(&envoy, &ecds::response("1", &passive, &settings));
    assert!(matches!(wrong, Err(RehearsalError::WrongVerdict { .. })), "{wrong:?}");
    let bad = json!({ "build": "b1", "proof": "short" });
    let module = absolute(tools::wasm_filter().unwrap());
    assert!(matches!(rehearse(&envoy, &ecds::response("1", &module, &bad)), Err(RehearsalError::NotTaken(_))));
}

#[test]
fn a_rehearsal_finds_every_missing_capability() {
    let envoy = tools::envoy().unwrap();
    let settings = json!({ "build": "b1", "proof": "0123456789abcdef" });
    let filter = ecds::response("1", &absolute(tools::wasm_filter().unwrap()), &settings);
    let pointer = "/resources/0/typed_config/config/vm_config/capability_restriction_config/allowed_capabilities";
    let Some(Value::Object(capabilities)) = filter.pointer(pointer) else { panic!("{filter}") };
    assert!(capabilities.len() > 10);
    for capability in capabilities.keys() {
        let mut without = filter.clone();
        let allowed = without.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
        allowed.remove(capability);
        let found = rehearse(&envoy, &without);
        assert!(
            matches!(&found, Err(RehearsalError::MissingCapability(missing)) if missing == capability),
            "{found:?}"
        );
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    fs::canonicalize(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_killed_at_any_instant_leaves_a_working_edge() {
    let fixture = Fixture::start().await;
    let folder = fixture.stack.folder().to_owned();
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    let module = tools::wasm_filter().unwrap();
    fs::write(folder.join("proof"), "a-proof-for-this-machine-alone").unwrap();
    let event = fixture.events("kill", 1).remove(0);
    fixture.send_accepted(&event).await;
    let publish = |number: u64| {
        let policy = folder.join("policy.toml");
        fs::write(&policy, format!("max_body_bytes = {}", 10_000 + number)).unwrap();
        let mut command = Command::new(&guardctl);
        command.args([
            "publish",
            "--watch",
            "0",
            "--rehearse-with",
            "none",
            "--edge",
            &fixture.stack.envoy_admin_url(),
        ]);
        command.arg("--policy").arg(&policy);
        command.arg("--wasm").arg(&module).arg("--proof-file").arg(folder.join("proof"));
        command.arg("--dir").arg(folder.join("edge")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    // A publication takes about a tenth of a second. The kills are spread over that time.
    for kill in 0..20 {
        let mut publisher = publish(kill);
        thread::sleep(Duration::from_millis(kill * 6));
        publisher.kill().unwrap();
        publisher.wait().unwrap();
        assert_eq!(fixture.sender.send(&event).await, Answer::Duplicate(event.key.clone()), "after kill {kill}");
        let on_disk: Value = serde_json::from_slice(&fs::read(folder.join("edge/ecds/filter.json")).unwrap()).unwrap();
        let module = on_disk.pointer("/resources/0/typed_config/config/vm_config/code/local/filename").unwrap();
        assert!(fs::metadata(module.as_str().unwrap()).is_ok(), "a restarted Envoy would find its module");
    }
    assert!(publish(100).wait().unwrap().success(), "the next publication succeeds");
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    let rejected = "envoy_extension_config_discovery_http_filter_truenroll_filter_update_rejected";
    assert_eq!(metrics.sum(rejected, &[]), 0);
}
