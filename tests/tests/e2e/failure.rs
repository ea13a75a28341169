//! No accepted event is lost, whichever program dies.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use backend::test_support::inbox::{Accepted, Arrival, Entry, Inbox, Lease, LeaseError, Reader, keys::Keys};
use envelope::{Envelope, Feature, Stage};
use harness::{
    keys, records,
    simulator::{sender::Answer, world::Fault},
};
use redis::streams::StreamRangeReply;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, IN_PROCESS_PREFIX, PATIENCE, config, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_the_answer_is_503_and_no_event_is_lost() {
    let mut fixture = Fixture::start_with(|options| options.backend("ingest.store_timeout_ms", 300)).await;
    let before = fixture.events("before", 20);
    for event in &before {
        fixture.send_accepted(event).await;
    }
    fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();

    let during = fixture.event("during", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let client = harness::simulator::sender::client();
    let request = client.post(fixture.stack.webhook()).header("content-type", "application/json");
    let answer = request.body(during.body.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let ready = client.get(format!("{}/readyz", fixture.stack.admin())).send().await.unwrap();
    assert_eq!(ready.status(), 503);

    fixture.stack.start_redis().unwrap();
    eventually("the event is accepted", async || {
        matches!(fixture.sender.send(&during).await, Answer::Accepted(_) | Answer::Duplicate(_))
    })
    .await;
    fixture.delivered(21).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_retries_until_a_killed_backend_is_back() {
    let mut fixture = Fixture::start().await;
    fixture.stack.backend.kill().unwrap();
    let event = fixture.event("patient", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let sending = {
        let sender = fixture.sender.clone();
        let event = event.clone();
        tokio::spawn(async move { sender.send(&event).await })
    };
    eventually("Envoy has retried", async || {
        fixture.stack.envoy_metrics().await.unwrap().sum("envoy_cluster_upstream_rq_retry", &["backend"]) > 0
    })
    .await;
    fixture.stack.start_backend().unwrap();
    assert_eq!(sending.await.unwrap(), Answer::Accepted(event.key));
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_during_attempts_loses_no_event_and_keeps_the_order() {
    let mut fixture = Fixture::start().await;
    // Slow deliveries make sure that attempts are running at each kill.
    let slow = (StatusCode::OK, Duration::from_millis(20));
    fixture.simulator.application.fail_next(vec![slow; 2_000]);
    let mut lanes: Vec<Vec<_>> = Vec::new();
    for case in 0..20 {
        let times = (0..10).map(|second| format!("2025-06-22T10:30:{second:02}Z"));
        let event = |at: String| fixture.event(&format!("killed-{case}"), Feature::Extraction, Stage::Completed, &at);
        lanes.push(times.map(event).collect());
    }
    let mut sending = JoinSet::new();
    for lane in lanes.clone() {
        let sender = fixture.sender.clone();
        sending.spawn(async move {
            let mut accepted = Vec::new();
            for event in lane {
                match sender.send(&event).await {
                    Answer::Accepted(key) | Answer::Duplicate(key) => accepted.push(key),
                    answer => panic!("{answer:?}"),
                }
            }
            accepted
        });
    }
    for kill in 1..=3 {
        eventually("some events are delivered", async || fixture.simulator.application.counts().0 > kill * 20).await;
        fixture.stack.backend.kill().unwrap();
        fixture.stack.start_backend().unwrap();
    }
    let accepted: Vec<Vec<String>> = sending.join_all().await;
    assert_eq!(accepted.iter().map(Vec::len).sum::<usize>(), 200, "Envoy retried until a backend was back");
    fixture.delivered(200).await;
    fixture.nothing_left_over().await;

    let deliveries = fixture.simulator.application.deliveries();
    for (number, lane) in lanes.iter().enumerate() {
        let mut keys = Vec::new();
        for delivery in deliveries.iter().filter(|delivery| delivery.lane.0 == format!("killed-{number}")) {
            if !keys.contains(&delivery.key) {
                keys.push(delivery.key.clone());
            }
        }
        let sent: Vec<_> = lane.iter().map(|event| event.key.clone()).collect();
        assert_eq!(keys, sent);
    }
    let (_, again) = fixture.simulator.application.counts();
    // Only attempts that were running at a kill are repeated: at most one per lane and kill.
    assert!(again <= 3 * 20, "{again} outcomes were delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_loses_no_accepted_event() {
    let mut fixture = Fixture::start().await;
    let slow = (StatusCode::OK, Duration::from_millis(10));
    fixture.simulator.application.fail_next(vec![slow; 1_000]);
    let events = fixture.events("aof", 300);
    let mut sending = JoinSet::new();
    for event in events.clone() {
        let sender = fixture.sender.clone();
        sending.spawn(async move { sender.send(&event).await });
    }
    let mut answers = Vec::new();
    while let Some(answer) = sending.join_next().await {
        answers.push(answer.unwrap());
        if answers.len() == 100 {
            fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();
            fixture.stack.start_redis().unwrap();
        }
    }
    let accepted = answers.iter().filter(|answer| !matches!(answer, Answer::Unavailable)).count();
    assert!(accepted >= 100);
    eventually("every accepted event is delivered", async || {
        fixture.simulator.application.counts().0 >= accepted as u64
    })
    .await;
    fixture.nothing_left_over().await;
    // All events are sent once more: those that were not accepted before are accepted now.
    for event in &events {
        assert!(matches!(fixture.sender.send(event).await, Answer::Accepted(_) | Answer::Duplicate(_)));
    }
    fixture.delivered(300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_attempts_survives_a_crash() {
    let mut fixture = Fixture::start_with(|options| {
        options
            .backend("worker.give_up_after_s", 0)
            .backend("worker.min_attempts", 4)
            .backend("worker.backoff_base_ms", 1)
            .backend("worker.backoff_cap_ms", 60_000)
    })
    .await;
    let wait = Fault { status: 500, retry_after: Some(2), delay: Duration::ZERO };
    fixture.simulator.world.fail_next([Fault::status(500), Fault::status(500), wait]);
    fixture
        .send_accepted(&fixture.event("memory", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z"))
        .await;
    eventually("three attempts have failed", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]) == 3
    })
    .await;
    fixture.stack.backend.kill().unwrap();
    fixture.simulator.world.fail_next([Fault::status(500)]);
    fixture.stack.start_backend().unwrap();
    let expected = [("api_server_error".to_owned(), 1)];
    eventually("the fourth attempt was the last", async || fixture.dead_letters().await == expected).await;
    assert_eq!(fixture.simulator.world.calls(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_backend_finishes_its_running_attempts() {
    let mut fixture = Fixture::start().await;
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(1))]);
    let event = fixture.event("graceful", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let calls = fixture.simulator.world.calls();
    fixture.send_accepted(&event).await;
    eventually("the attempt has begun", async || fixture.simulator.world.calls() > calls).await;
    let status =
        fixture.stack.backend.stop(PATIENCE).unwrap().expect("the backend was killed because it did not stop in time");
    assert!(status.success(), "{status}");
    assert_eq!(fixture.simulator.application.counts(), (1, 0));
    // The released lease can be acquired at once, and no event is left.
    fixture.stack.start_backend().unwrap();
    fixture.nothing_left_over().await;
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_lost_its_lease_cannot_change_anything() {
    let fixture = Fixture::start().await;
    let config = config(&fixture.stack.redis_url());
    let inbox = Inbox::connect(&config).await.unwrap();
    for case in ["fenced", "fenced-too"] {
        let event = fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
        let envelope = Envelope::parse(event.body.as_bytes()).unwrap();
        let key = envelope.key();
        let stored = inbox.accept(&Arrival::now(&envelope, &key, event.body.as_bytes())).await.unwrap();
        assert_eq!(stored, Accepted::Stored);
    }

    let lifetime = Duration::from_millis(300);
    let old = inbox.acquire(0, lifetime).await.unwrap().expect("the partition is free");
    assert!(inbox.acquire(0, lifetime).await.unwrap().is_none(), "a partition has only one owner");
    let mut acquired = None;
    eventually("the lease has expired", async || {
        acquired = inbox.acquire(0, PATIENCE).await.unwrap();
        acquired.is_some()
    })
    .await;
    let new = acquired.unwrap();
    let batch = Reader::new(new.clone()).next(&Feature::ALL, 10, PATIENCE).await.unwrap().remove(0);
    let handled = |lease: &Lease| {
        let handled = |entry: &Entry| lease.handled(entry, &entry.event().unwrap().key, "result", Duration::ZERO);
        batch.entries.iter().map(handled).collect::<Vec<_>>()
    };
    let entry = &batch.entries[0];
    let is_lost = |answer| matches!(answer, Err(LeaseError::Lost(_)));
    assert!(is_lost(old.complete(&handled(&old)).await));
    assert!(is_lost(old.retry(entry.id, 1, SystemTime::now(), &entry.failures).await));
    assert!(is_lost(old.dead_letter(entry, "code", "detail", 1, &entry.failures).await));
    assert!(is_lost(old.renew().await));
    assert!(is_lost(old.release().await));
    assert!(new.entry(entry.id).await.unwrap().is_some(), "the event is still there");
    assert_eq!(inbox.contents().await.unwrap().pending, 2);
    for _ in 0..2 {
        new.complete(&handled(&new)).await.expect("a second call changes nothing");
        assert_eq!(inbox.contents().await.unwrap().pending, 0);
        let history = Keys::new(IN_PROCESS_PREFIX, 1).of_partition(0).history();
        let entries: StreamRangeReply = fixture.redis(redis::cmd("XRANGE").arg(history).arg("-").arg("+"));
        assert_eq!(entries.ids.iter().flat_map(records::of).count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_not_an_event_is_a_dead_letter_and_is_counted() {
    let fixture = Fixture::start().await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut add = redis::cmd("XADD");
    add.arg(keys::of_partition(5).inbox(Feature::Forensics)).arg("*").arg("key").arg("other").arg("body").arg("{bad");
    add.exec(&mut client.get_connection().unwrap()).unwrap();
    let expected = [("malformed_json".to_owned(), 1)];
    eventually("the dead letter is counted", async || fixture.dead_letters().await == expected).await;
    let listed = fixture.stack.backend_command(&["dead"]).unwrap();
    assert!(listed.contains(r#""code":"malformed_json""#), "{listed}");
    let said = fixture.stack.backend_command(&["replay"]).unwrap();
    assert!(said.starts_with("replayed 0 dead letters; 1 cannot be replayed"), "{said}");
    fixture.nothing_left_over().await;
}

/// A replay takes the dead letters of a moment by the clock of Redis, which adds their entries.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_a_backend_whose_clock_was_ahead_is_replayed() {
    let fixture = Fixture::start().await;
    let event = fixture.event("ahead", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let mut add = redis::cmd("XADD");
    add.arg(keys::of_partition(5).dead()).arg("*").arg("key").arg(&event.key).arg("body").arg(&event.body);
    let _: String = fixture.redis(add.arg("code").arg("sink_rejected").arg("buried").arg(4_102_444_800_000_u64));
    assert_eq!(fixture.stack.backend_command(&["replay"]).unwrap(), "replayed 1 dead letter\n");
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unhandled_events_expire_and_are_counted() {
    let mut fixture = Fixture::start().await;
    fixture.simulator.world.upload("gone", None, &Feature::ALL);
    let event = fixture.event("gone", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.simulator.world.delete("gone");
    fixture.send_accepted(&event).await;
    eventually("the event is a dead letter", async || !fixture.dead_letters().await.is_empty()).await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let keys = keys::of_partition(5);
    for stream in [keys.dead(), keys.quarantine()] {
        // An entry ID of the year 2001.
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg("1000000000000-0").arg("key").arg("old").arg("body").arg("{}");
        add.exec(&mut client.get_connection().unwrap()).unwrap();
    }
    fixture.stack.backend.stop(PATIENCE).unwrap();
    fixture.stack.start_backend().unwrap();
    eventually("both are deleted and counted", async || {
        let metrics = fixture.stack.backend_metrics().await.unwrap();
        metrics.by_label("truenroll_backend_expired_total", "from").into_iter().collect::<Vec<_>>()
            == [("dead".to_owned(), 1), ("quarantine".to_owned(), 1)]
    })
    .await;
    let left = fixture.stack.backend_command(&["dead"]).unwrap();
    assert!(left.lines().count() == 1 && left.contains(&event.key), "{left}");
}
