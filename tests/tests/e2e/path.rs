//! Events reach the application once, in order, and with the outcome that the Partner API shows.

use std::time::Duration;

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    keys,
    simulator::{sender::Answer, world::Fault},
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_eight_events_delivers_its_outcome() {
    let fixture = Fixture::start().await;
    for feature in Feature::ALL {
        for (stage, case) in [(Stage::Completed, "good"), (Stage::Failed, "bad")] {
            fixture.send_accepted(&fixture.event(case, feature, stage, AT)).await;
        }
    }
    fixture.delivered_once(8).await;
    for delivery in fixture.simulator.application.deliveries() {
        let Value::Object(outcome) = &delivery.body["outcome"] else { panic!("{delivery:?}") };
        assert_eq!(delivery.body["externalId"], "applicant-1");
        assert_eq!(delivery.body["occurredAt"], AT);
        match (delivery.lane.0.as_str(), delivery.lane.1.as_str()) {
            ("good", "classification") => assert!(outcome["result"]["credentials"][0]["credentialId"].is_string()),
            ("good", feature) => assert_eq!(outcome["result"][feature][0]["status"], "completed", "{delivery:?}"),
            _ => {
                assert_eq!(outcome["kind"], "recommendation");
                assert!(outcome["case"]["uploads"][0]["uploadId"].is_string());
            }
        }
    }
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_stage_delivers_a_recommendation_based_on_the_whole_case() {
    let fixture = Fixture::start().await;
    let world = &fixture.simulator.world;
    let asked = [Feature::Extraction, Feature::Forensics];
    for (case, other, expected) in [
        ("all-failed", Some(Stage::Failed), "resubmit"),
        ("one-good", Some(Stage::Completed), "manual_review"),
        ("not-done", None, "wait"),
    ] {
        world.upload(case, None, &asked);
        if let Some(stage) = other {
            world.finish(case, Feature::Forensics, stage, AT).unwrap();
        }
        fixture.send_accepted(&world.finish(case, Feature::Extraction, Stage::Failed, AT).unwrap()).await;
        eventually("the recommendation is delivered", async || {
            let deliveries = fixture.simulator.application.deliveries();
            deliveries
                .iter()
                .any(|delivery| delivery.lane.0 == case && delivery.body["outcome"]["recommendation"] == expected)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recommendation_waits_until_the_rest_of_the_case_has_finished() {
    let fixture = Fixture::start_with(|options| options.backend("handler.wait_for_case_s", 60)).await;
    let world = &fixture.simulator.world;
    world.upload("late", None, &[Feature::Extraction, Feature::Forensics]);
    let failed = world.finish("late", Feature::Extraction, Stage::Failed, AT).unwrap();
    fixture.send_accepted(&failed).await;
    eventually("the event had several attempts", async || world.calls() >= 2).await;
    assert_eq!(fixture.simulator.application.counts(), (0, 0));
    fixture.send_accepted(&world.finish("late", Feature::Forensics, Stage::Completed, AT).unwrap()).await;
    fixture.delivered_once(2).await;
    let deliveries = fixture.simulator.application.deliveries();
    let told = deliveries.iter().find(|delivery| delivery.key == failed.key).unwrap();
    assert_eq!(told.body["outcome"]["recommendation"], "manual_review");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_event_is_a_duplicate_even_if_its_body_is_written_differently() {
    let fixture = Fixture::start().await;
    let event = fixture.event("again", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    let mut same_instant = event.clone();
    same_instant.body = event.body.replace("10:30:00Z", "12:30:00.000+02:00");
    for again in [&event, &same_instant, &event] {
        assert_eq!(fixture.sender.send(again).await, Answer::Duplicate(event.key.clone()));
    }
    fixture.delivered_once(1).await;
    assert_eq!(
        fixture.sender.send(&event).await,
        Answer::Duplicate(event.key.clone()),
        "an event is also a duplicate after it was handled"
    );

    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_backend_ingest_total", &["answer=\"duplicate\""]), 3);
    assert_eq!(
        metrics.sum("truenroll_backend_ingest_total", &["answer=\"conflict\""]),
        1,
        "the redelivery with another body is counted as a conflict"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_concurrent_deliveries_are_one_event() {
    let fixture = Fixture::start().await;
    let event = fixture.event("at-once", Feature::Forensics, Stage::Completed, AT);
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let sender = fixture.sender.clone();
        let event = event.clone();
        sending.spawn(async move { sender.send(&event).await });
    }
    let answers = sending.join_all().await;
    let accepted = answers.iter().filter(|answer| matches!(answer, Answer::Accepted(_))).count();
    let duplicates = answers.iter().filter(|answer| matches!(answer, Answer::Duplicate(_))).count();
    assert_eq!((accepted, duplicates), (1, 99));
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_one_case_are_both_handled() {
    let fixture = Fixture::start().await;
    let world = &fixture.simulator.world;
    for at in [AT, "2025-06-23T10:30:00Z"] {
        world.upload("twice", Some("applicant-1"), &[Feature::Extraction]);
        fixture.send_accepted(&world.finish("twice", Feature::Extraction, Stage::Completed, at).unwrap()).await;
    }
    fixture.delivered_once(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lane_keeps_its_order_while_calls_of_the_partner_api_fail() {
    let fixture = Fixture::start().await;
    let lanes = [("order-1", Feature::Extraction), ("order-1", Feature::Forensics), ("order-2", Feature::Translation)];
    let mut sent: Vec<Vec<String>> = vec![Vec::new(); lanes.len()];
    fixture.simulator.world.fail_next((0..40).map(|number| Fault::status([500, 200, 429][number % 3])));
    for second in 0..20 {
        for (lane, (case, feature)) in lanes.iter().enumerate() {
            let at = format!("2025-06-22T10:30:{second:02}Z");
            let event = fixture.event(case, *feature, Stage::Completed, &at);
            fixture.send_accepted(&event).await;
            sent[lane].push(event.key);
        }
    }
    fixture.delivered_once(60).await;
    let deliveries = fixture.simulator.application.deliveries();
    for (lane, (case, feature)) in lanes.iter().enumerate() {
        let of_lane = deliveries.iter().filter(|d| d.lane == ((*case).to_owned(), feature.to_string()));
        let keys: Vec<_> = of_lane.map(|delivery| delivery.key.clone()).collect();
        assert_eq!(keys, sent[lane]);
    }
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_waits_for_retry_does_not_delay_other_lanes() {
    let fixture = Fixture::start().await;
    let slow = Fault { status: 503, retry_after: Some(3_600), delay: Duration::ZERO };
    fixture.simulator.world.fail_next([slow]);
    let first = fixture.event("stuck", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&first).await;
    eventually("the first attempt failed", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]) == 1
    })
    .await;
    for (case, feature) in [("stuck", Feature::Forensics), ("other", Feature::Extraction)] {
        fixture.send_accepted(&fixture.event(case, feature, Stage::Completed, AT)).await;
    }
    fixture.delivered(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_can_never_be_handled_is_dead_lettered_with_its_error() {
    let fixture =
        Fixture::start_with(|options| options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 3))
            .await;
    let world = &fixture.simulator.world;
    let deleted = fixture.event("deleted", Feature::Extraction, Stage::Completed, AT);
    world.delete("deleted");
    world.upload("not-asked", None, &[Feature::Forensics]);
    let mut not_asked = world.finish("not-asked", Feature::Forensics, Stage::Completed, AT).unwrap();
    not_asked.body = not_asked.body.replace("forensics", "translation");
    for event in [&deleted, &not_asked] {
        assert!(matches!(fixture.sender.send(event).await, Answer::Accepted(_)));
    }
    eventually("both are dead letters", async || fixture.dead_letters().await.len() == 2).await;
    world.fail_next((0..3).map(|_| Fault::status(500)));
    fixture.send_accepted(&fixture.event("unlucky", Feature::Extraction, Stage::Completed, AT)).await;
    eventually("the third is a dead letter", async || fixture.dead_letters().await.len() == 3).await;
    let codes = fixture.dead_letters().await;
    let expected = ["api_case_not_found", "api_not_requested", "api_server_error"];
    assert_eq!(codes, expected.map(|code| (code.to_owned(), 1)));
    fixture.nothing_left_over().await;

    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut letters = Vec::new();
    for keys in keys::of_all_partitions() {
        let reply: redis::streams::StreamRangeReply =
            redis::cmd("XRANGE").arg(keys.dead()).arg("-").arg("+").query_async(&mut connection).await.unwrap();
        letters.extend(reply.ids);
    }
    let field = |letter: &redis::streams::StreamId, name| letter.get::<String>(name).unwrap();
    let letter = letters.iter().find(|letter| field(letter, "code") == "api_server_error").unwrap();
    assert_eq!(field(letter, "attempts"), "3");
    assert!(field(letter, "detail").contains("500") && field(letter, "body").contains("unlucky"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_application_gets_the_same_outcome_again_with_the_same_idempotency_key() {
    let fixture = Fixture::start().await;
    let failures = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS];
    fixture.simulator.application.fail_next(failures.map(|status| (status, Duration::ZERO)));
    let event = fixture.event("retry", Feature::Translation, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    assert_eq!(fixture.simulator.application.deliveries()[0].key, event.key);
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_backend_retries_total", &["code=\"sink_rejected\""]), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_retried_while_the_api_key_is_rejected() {
    let fixture = Fixture::start().await;
    let rejections =
        [Fault::status(401), Fault::status(403), Fault { delay: Duration::from_millis(1), ..Fault::status(401) }];
    fixture.simulator.world.fail_next(rejections);
    fixture.send_accepted(&fixture.event("key", Feature::Extraction, Stage::Completed, AT)).await;
    fixture.delivered_once(1).await;
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_backend_retries_total", &["code=\"api_unauthorized\""]), 2);
    assert_eq!(metrics.sum("truenroll_backend_retries_total", &["code=\"api_forbidden\""]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_sink_names_each_event_and_does_not_show_its_result() {
    let fixture = Fixture::start_with(|options| options.backend("sink.kind", "log")).await;
    let events = fixture.events("logged", 4);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    let log = || fixture.stack.backend.log();
    eventually("each event is logged", async || events.iter().all(|event| log().contains(&event.key))).await;
    assert!(!log().contains("Nonymous") && !log().contains("applicant-1"));
    assert_eq!(fixture.simulator.application.counts(), (0, 0));
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_rejects_requests_that_the_filter_has_not_judged() {
    let fixture = Fixture::start().await;
    let event = fixture.event("direct", Feature::Extraction, Stage::Completed, AT);
    let client = harness::simulator::sender::client();
    for judged in [None, Some("a-proof-for-this-machine-alon;b1;accepted"), Some(""), Some(";;accepted")] {
        let mut request = client.post(fixture.stack.ingest()).body(event.body.clone());
        if let Some(judged) = judged {
            request = request.header("x-edge-judged", judged);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], json!("unproven"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_logged() {
    let fixture = Fixture::start().await;
    // The backend logs only failed attempts, so every event fails once.
    fixture.simulator.world.fail_next((0..4).map(|_| Fault::status(500)));
    for event in fixture.events("private", 4) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered_once(4).await;
    for program in [&fixture.stack.backend, &fixture.stack.envoy] {
        eventually("the event key is logged", async || program.log().contains("private-0")).await;
        let log = program.log();
        for personal in ["applicant-1", "Nonymous", "Zeugnis", "a-proof-for", harness::backend_settings::API_KEY] {
            assert!(!log.contains(personal), "{personal} is logged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_selected_by_criteria_and_replayed_in_order() {
    let fixture =
        Fixture::start_with(|options| options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 1))
            .await;
    let backend = |arguments: &[&str]| fixture.stack.backend_command(arguments).unwrap();
    fixture.simulator.application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 4]);
    let times = ["2025-06-22T10:30:00Z", "2025-06-22T10:30:01Z", "2025-06-22T10:30:02Z"];
    let mut lane = times.map(|at| fixture.event("dead", Feature::Extraction, Stage::Completed, at)).to_vec();
    lane.push(fixture.event("other", Feature::Forensics, Stage::Completed, AT));
    for (number, event) in lane.iter().enumerate() {
        fixture.send_accepted(event).await;
        eventually("the event is a dead letter", async || {
            fixture.dead_letters().await.iter().any(|(_, count)| *count == number as u64 + 1)
        })
        .await;
    }
    let listed = backend(&["dead", "--code", "sink_rejected"]);
    assert!(listed.lines().count() == 4 && lane.iter().all(|event| listed.contains(&event.key)), "{listed}");
    assert_eq!(backend(&["dead", "--until", "2020-01-01T00:00:00Z"]), "");
    let said = backend(&["replay", "--dry-run", "--case", "dead"]);
    assert!(said.ends_with("would replay 3 dead letters\n") && said.lines().count() == 4, "{said}");

    let said = backend(&["replay", "--feature", "extraction", "--rate", "1000"]);
    assert_eq!(said, "replayed 3 dead letters\n");
    fixture.delivered_once(3).await;
    let delivered: Vec<_> = fixture.simulator.application.deliveries().into_iter().map(|one| one.key).collect();
    assert_eq!(delivered, lane[..3].iter().map(|event| event.key.clone()).collect::<Vec<_>>());
    assert_eq!(backend(&["replay", "--key", &lane[3].key]), "replayed 1 dead letter\n");
    fixture.delivered_once(4).await;
    assert_eq!(backend(&["replay"]), "replayed 0 dead letters\n");
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_partner_api_is_down_the_circuit_opens_and_events_lose_no_attempts() {
    let fixture = Fixture::start_with(|options| {
        options
            .backend("worker.give_up_after_s", 0)
            .backend("worker.min_attempts", 3)
            .backend("partner_api.breaker_failures", 2)
            .backend("partner_api.breaker_open_ms", 1_000)
    })
    .await;
    let retries = async |code: &str| {
        let metrics = fixture.stack.backend_metrics().await.unwrap();
        metrics.sum("truenroll_backend_retries_total", &[&format!("code=\"{code}\"")])
    };
    // The first two calls fail, which opens the circuit, and then two of the trial calls.
    fixture.simulator.world.fail_next(vec![Fault::status(500); 4]);
    let events = fixture.events("outage", 42);
    for (number, event) in events[..2].iter().enumerate() {
        fixture.send_accepted(event).await;
        eventually("a call has failed", async || retries("api_server_error").await > number as u64).await;
    }
    for event in &events[2..] {
        fixture.send_accepted(event).await;
    }
    eventually("the circuit is open", async || retries("api_circuit_open").await >= 40).await;
    fixture.delivered_once(42).await;
    assert!(fixture.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_handler_replaces_the_default_one() {
    let fixture =
        Fixture::start_with(|options| harness::stack::Options { example: Some("own-handler"), ..options }).await;
    for feature in [Feature::Classification, Feature::Extraction, Feature::Forensics] {
        fixture.send_accepted(&fixture.event("own", feature, Stage::Completed, AT)).await;
    }
    fixture.delivered_once(2).await;
    for delivery in fixture.simulator.application.deliveries() {
        let is_its_own = delivery.body["outcome"]["result"] == serde_json::json!({ "credits": 180.0 });
        assert_eq!(is_its_own, delivery.lane.1 == "extraction", "{}", delivery.body);
    }
    fixture.nothing_left_over().await;
    assert_eq!(fixture.simulator.application.counts(), (2, 0), "the custom handler of classification delivers nothing");
}
