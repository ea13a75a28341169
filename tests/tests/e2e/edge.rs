//! The filter gives the same verdicts in Envoy as natively, over every transport.

use std::collections::BTreeMap;

use envelope::vectors::{self, Accepted, Rejected, Vector};
use harness::{keys, simulator::sender::Answer};
use serde_json::json;

use crate::{
    fixture::{Fixture, eventually},
    transport::{Transport, send},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_vector_gets_its_expected_verdict_over_every_transport() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let mut by_policy: BTreeMap<String, Vec<Vector>> = BTreeMap::new();
    for vector in vectors::all().unwrap() {
        by_policy.entry(vector.policy.to_string()).or_default().push(vector);
    }
    assert!(by_policy.len() > 5, "the vectors cover several policies");
    let mut wrong = Vec::new();
    let mut right = 0;
    for vectors in by_policy.values() {
        publisher.publish(&fixture.stack.build(vectors[0].policy.clone()).unwrap()).unwrap();
        for (vector, transport) in vectors.iter().flat_map(|vector| Transport::ALL.map(|transport| (vector, transport)))
        {
            let answer = send(transport, &fixture.stack.edge(), vector).await;
            let decided = match answer.clone() {
                Answer::Accepted(key) | Answer::Duplicate(key) | Answer::Quarantined(key) => Ok(key),
                Answer::Rejected(_, code, pointer) => Err(Rejected { code, pointer }),
                Answer::Unavailable | Answer::NoConnection => {
                    Err(Rejected { code: "unavailable".to_owned(), pointer: None })
                }
            };
            let expected = vector.expected().map(|Accepted { key, .. }| key);
            if decided == expected {
                right += 1;
            } else {
                wrong.push(format!("{} ({transport:?}): expected {expected:?}, got {answer:?}", vector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{right} verdicts were correct, but these were not:\n{}", wrong.join("\n"));
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    assert_eq!(metrics.sum("envoy_wasm_truenroll_filter_vm_reload_success", &[]), 0, "no VM crashed");
    let unproven = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(unproven.sum("truenroll_backend_ingest_total", &["answer=\"unproven\""]), 0);
    let expected = ["accepted", "duplicate", "conflict", "quarantined", "revived", "revived_conflict"];
    for (answer, count) in unproven.by_label("truenroll_backend_ingest_total", "answer") {
        assert!(
            count == 0 || expected.contains(&answer.as_str()),
            "the filter and the backend disagree: {count} × {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_accepts_events_that_would_be_rejected_and_the_backend_stores_only_valid_ones() {
    let policy = json!({ "mode": "shadow", "audience": "required" });
    let fixture = Fixture::start_with(|options| harness::stack::Options { policy, ..options }).await;
    let event = fixture.events("shadow", 1).remove(0);
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    let mut malformed = event.clone();
    malformed.body = "{bad".to_owned();
    let rejected = fixture.sender.send(&malformed).await;
    assert_eq!(rejected, Answer::Rejected(400, "malformed_json".to_owned(), None));
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_filter_shadowed", &["code=\"missing_audience\""]), 1);
    assert_eq!(metrics.sum("truenroll_filter_shadowed", &["code=\"malformed_json\""]), 1);
    let log = || fixture.stack.envoy.log();
    eventually("the access log shows the code", async || log().contains(r#""shadow":"missing_audience""#)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_event_is_quarantined_and_readmitted_once_it_is_known() {
    let policy = json!({ "unknown_events": "quarantine" });
    let fixture = Fixture::start_with(|options| harness::stack::Options { policy, ..options }).await;
    let known = fixture.events("quarantine", 1).remove(0);
    let mut unknown = known.clone();
    unknown.body = known.body.replace("classification", "verification");
    let Answer::Quarantined(key) = fixture.sender.send(&unknown).await else { panic!("the event was not quarantined") };
    assert_eq!(fixture.sender.send(&unknown).await, Answer::Duplicate(key.clone()));
    let listed = fixture.stack.backend_command(&["quarantine"]).unwrap();
    assert!(listed.contains(&key) && listed.contains("case.verification.completed"), "{listed}");
    assert!(fixture.stack.backend_command(&["readmit"]).unwrap().contains("left 1 event that"));

    // An event that an older version quarantined because it did not know its name.
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut add = redis::cmd("XADD");
    add.arg(keys::of_partition(3).quarantine()).arg("*").arg("key").arg(&known.key).arg("body").arg(&known.body);
    let _: String = add.arg("received").arg(1_750_588_200_000_u64).query_async(&mut connection).await.unwrap();
    for others in [["--feature", "extraction"], ["--since", "2099-01-01T00:00:00Z"], ["--key", "another"]] {
        let said = fixture.stack.backend_command(&[&["readmit"], &others[..]].concat()).unwrap();
        assert_eq!(said, "readmitted 0 events\n", "{others:?}");
    }
    let of_its_feature = ["--feature", "classification"];
    let listed = fixture.stack.backend_command(&[&["quarantine"], &of_its_feature[..]].concat()).unwrap();
    assert!(listed.contains(&known.key) && !listed.contains(&key), "{listed}");
    let said = fixture.stack.backend_command(&[&["readmit"], &of_its_feature[..]].concat()).unwrap();
    assert_eq!(said, "readmitted 1 event\n");
    let said = fixture.stack.backend_command(&["readmit"]).unwrap();
    assert!(said.starts_with("readmitted 0 events; left 1 event that"), "{said}");
    fixture.delivered_once(1).await;
    assert!(fixture.stack.backend_command(&["readmit"]).unwrap().starts_with("readmitted 0 events"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_on_the_allow_list_are_accepted() {
    for (network, is_allowed) in [("127.0.0.0", true), ("192.0.2.0", false)] {
        let bootstrap = vec![("allowed_network", network.to_owned()), ("allowed_prefix_length", "8".to_owned())];
        let enable = vec!["ip_allow_list"];
        let fixture = Fixture::start_with(|options| harness::stack::Options { enable, bootstrap, ..options }).await;
        let event = fixture.events("network", 1).remove(0);
        let rejected = Answer::Rejected(403, "client_not_allowed".to_owned(), None);
        let expected = if is_allowed { Answer::Accepted(event.key.clone()) } else { rejected };
        assert_eq!(fixture.sender.send(&event).await, expected, "{network}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_token_is_never_logged() {
    let token = "token-0123456789-abcdef";
    let policy = json!({ "authenticity": { "kind": "path_token", "tokens": [token] } });
    let fixture = Fixture::start_with(|options| harness::stack::Options { policy, ..options }).await;
    let event = fixture.events("token", 1).remove(0);
    let client = harness::simulator::sender::client();
    for (path, status) in [(format!("/{token}"), 202), (format!("/{token}-wrong"), 404)] {
        let url = format!("{}{path}", fixture.stack.webhook());
        let request = client.post(url).header("content-type", "application/json").body(event.body.clone());
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    let log = || fixture.stack.envoy.log();
    eventually("the access log has both requests", async || {
        log().matches(r#""path":"/webhooks/truenroll""#).count() == 2
    })
    .await;
    assert!(!log().contains(token) && !fixture.stack.backend.log().contains(token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_document_says_what_is_wrong_and_repeats_no_value() {
    let fixture = Fixture::start().await;
    let client = harness::simulator::sender::client();
    let body =
        r#"{"eventName":"case.extraction.complete","payload":{"caseId":"SECRET","occurredAt":"2025-06-22T10:30:00Z"}}"#;
    let request = client.post(fixture.stack.webhook()).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["x-edge-rejection"], "unknown_event");
    let text = answer.text().await.unwrap();
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&problem["code"], &problem["pointer"]), (&"unknown_event".into(), &"/eventName".into()));
    assert!(!text.contains("SECRET"), "{text}");

    let rejection = || {
        let log = fixture.stack.envoy.log();
        let line = log.lines().find(|line| line.contains("unknown_event"))?;
        Some(serde_json::from_str::<serde_json::Value>(line).expect("access log lines are JSON"))
    };
    eventually("the access log has the rejection", async || rejection().is_some()).await;
    let line = rejection().unwrap();
    assert_eq!((&line["status"], &line["rejection"]), (&422.into(), &"unknown_event".into()));
}
