//! The filter is replaced under load, with nothing dropped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use envoy::publish::{Outcome, PublishError};
use serde_json::json;
use tests::simulator::sender::Answer;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_swapped_and_rolled_back_under_load_without_a_failure() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for worker in 0..4 {
        let (sender, done) = (fixture.sender.clone(), Arc::clone(&done));
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
    for swap in 0..5 {
        let build = fixture.stack.build(json!({ "max_body_bytes": 10_000 + swap })).unwrap();
        let (publication, outcome) = publisher.publish(&build).unwrap();
        assert_eq!(outcome, Outcome::Verified);
        names.push(publication.build);
    }
    let (publication, outcome) = publisher.rollback(None).unwrap();
    assert_eq!((publication.build.as_str(), outcome), (names[3].as_str(), Outcome::Verified));
    let (publication, _) = publisher.rollback(Some(&names[0])).unwrap();
    assert_eq!(publication.build, names[0]);
    publisher.publish(&first).unwrap();
    done.store(true, Ordering::Relaxed);
    let answers: u64 = load.join_all().await.into_iter().sum();
    assert!(answers > 100, "there was load: {answers}");
    fixture.delivered_once(200).await;
    let metrics = fixture.stack.edge_metrics().await.unwrap();
    assert_eq!(metrics.sum("envoy_wasm_webhook_guard_vm_reload", &[]), 0, "no VM crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_build_is_refused_and_the_last_good_one_stays() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let served = publisher.edge.as_ref().unwrap().probe().unwrap();

    let mut garbage = fixture.stack.build(json!({})).unwrap();
    garbage.module.truncate(1_000);
    assert!(matches!(publisher.publish(&garbage), Err(PublishError::Refused { .. })));
    let mut text = fixture.stack.build(json!({})).unwrap();
    text.module = b"not WebAssembly".to_vec();
    assert!(matches!(publisher.publish(&text), Err(PublishError::NotWasm)));
    let settings = publisher.publish(&fixture.stack.build(json!({ "max_depth": 1_000 })).unwrap());
    assert!(settings.unwrap_err().to_string().contains("`policy.max_depth`"));

    assert_eq!(publisher.edge.as_ref().unwrap().probe().unwrap(), served);
    let on_disk = std::fs::read_to_string(publisher.store.served_file()).unwrap();
    assert!(on_disk.contains(&served), "a restarted Envoy would serve the good build");
    let event = fixture.events("after", 1).remove(0);
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    // The same build in good health is taken afterwards.
    let good = fixture.stack.build(json!({ "max_depth": 10 })).unwrap();
    assert_eq!(publisher.publish(&good).unwrap().1, Outcome::Verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_refuses_a_configuration_that_the_publisher_did_not_see() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let mut response = publisher.store.publications().unwrap().pop().unwrap().response;
    let settings = &mut response["resources"][0]["typed_config"]["config"]["configuration"]["value"];
    *settings = json!(settings.as_str().unwrap().replace("\"policy\":{}", "\"policy\":{\"max_depht\":8}"));
    publisher.store.serve(&response).unwrap();
    eventually("Envoy has refused it", async || publisher.edge.as_ref().unwrap().refused_updates() == Ok(1)).await;
    let log = fixture.stack.envoy.log();
    assert!(log.contains("filter setting `policy.max_depht`: unknown field"), "{log}");
    let event = fixture.events("after", 1).remove(0);
    fixture.send_accepted(&event).await;
}
