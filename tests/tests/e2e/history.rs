//! What the history records of events that have left the inbox.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use backend::test_support::inbox::{Arrival, Failures, Inbox, Reader};
use envelope::{CaseId, Envelope, Feature, Stage};
use harness::{
    keys, records,
    simulator::{sender::Answer, world::Event},
    stack::{Options, group::Kind},
};
use redis::streams::StreamRangeReply;

use crate::fixture::{Fixture, PATIENCE, config, eventually};

/// The fields `event` and `error` of all records of an event, oldest first, without the times.
fn records(fixture: &Fixture, event: &Event) -> Vec<(String, String)> {
    let mut records = Vec::new();
    for keys in keys::of_all_partitions() {
        let found: StreamRangeReply = fixture.redis(redis::cmd("XRANGE").arg(keys.history()).arg("-").arg("+"));
        for (text, error) in found.ids.iter().flat_map(records::of) {
            let words: Vec<_> = text.splitn(6, ' ').collect();
            if words[5] == event.key {
                records.push((format!("{} {} {}", words[0], words[2], words[4]), error));
            }
        }
    }
    records
}

async fn recorded(fixture: &Fixture, event: &Event, expected: &[(&str, &str)]) {
    let mut found = Vec::new();
    eventually("the event has as many records", async || {
        found = records(fixture, event);
        found.len() == expected.len()
    })
    .await;
    let found: Vec<_> = found.iter().map(|(event, error)| (event.as_str(), error.as_str())).collect();
    assert_eq!(found, expected);
}

const GONE: &str = "sink_rejected the application answered 410 instead of 2xx";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_has_a_record_of_each_change() {
    let fixture = Fixture::start().await;
    let event = |case| fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");

    let smooth = event("smooth");
    fixture.send_accepted(&smooth).await;
    recorded(&fixture, &smooth, &[("result 1 sent", "")]).await;

    let late = event("retried");
    fixture.simulator.application.fail_next([(StatusCode::INTERNAL_SERVER_ERROR, Duration::ZERO)]);
    fixture.send_accepted(&late).await;
    recorded(&fixture, &late, &[("result 2 sent", "sink_rejected the application answered 500 instead of 2xx")]).await;

    let dead = event("dead");
    let refuse = || fixture.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
    refuse();
    fixture.send_accepted(&dead).await;
    recorded(&fixture, &dead, &[("dead 1 sent", GONE)]).await;
    refuse();
    fixture.stack.backend_command(&["replay"]).unwrap();
    let replayed = [("dead 1 sent", GONE), ("replayed 1 sent", ""), ("dead 1 sent", GONE)];
    recorded(&fixture, &dead, &replayed).await;
    fixture.send_accepted(&dead).await;
    recorded(&fixture, &dead, &[&replayed[..], &[("revived 0 sent", ""), ("result 1 sent", "")]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_history_nothing_is_recorded() {
    let fixture = Fixture::start_with(|options| options.backend("history.enabled", false)).await;
    let event = fixture.event("off", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
    fixture.send_accepted(&event).await;
    eventually("the event is a dead letter", async || !fixture.dead_letters().await.is_empty()).await;
    fixture.stack.backend_command(&["replay"]).unwrap();
    fixture.delivered_once(1).await;
    fixture.nothing_left_over().await;
    assert_eq!(records(&fixture, &event), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_are_dropped() {
    let fixture = Fixture::start().await;
    let history = keys::of_partition(3).history();
    let add = |id: &str| {
        fixture.redis::<String>(redis::cmd("XADD").arg(&history).arg(id).arg("event").arg("result 1 1 1 sent key"));
    };
    // The first one dates from 1970.
    add("1-0");
    add("*");
    let mut stack = fixture.stack;
    stack.backend.kill().unwrap();
    stack.start_backend().unwrap();
    let client = redis::Client::open(stack.redis_url()).unwrap();
    eventually("the old record is dropped", async || {
        redis::cmd("XLEN").arg(&history).query::<u64>(&mut client.get_connection().unwrap()).unwrap() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_is_full_the_failures_of_waiting_events_take_no_more_memory() {
    let fixture = Fixture::start().await;
    let inbox = Inbox::connect(&config(&fixture.stack.redis_url())).await.unwrap();
    let event = fixture.event("full", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let envelope = Envelope::parse(event.body.as_bytes()).unwrap();
    inbox.accept(&Arrival::now(&envelope, &envelope.key(), event.body.as_bytes())).await.unwrap();
    let lease = inbox.acquire(0, PATIENCE).await.unwrap().expect("the partition is free");
    let batch = Reader::new(lease.clone()).next(&Feature::ALL, 10, PATIENCE).await.unwrap().remove(0);
    let (id, now) = (batch.entries[0].id, SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_588_200));
    let failures = Failures::default().and("sink_rejected", "the application answered 503", now, Duration::ZERO);
    let stored = async || lease.entry(id).await.unwrap().unwrap();

    lease.retry(id, 1, now, &failures).await.unwrap();
    assert_eq!(stored().await.failures, failures);
    let limit = |bytes: u64| fixture.redis::<String>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes));
    limit(1);
    lease.retry(id, 2, now, &failures).await.unwrap();
    let entry = stored().await;
    assert_eq!((entry.attempts, entry.failures), (2, Failures::default()));
    limit(0);
    lease.retry(id, 3, now, &failures).await.unwrap();
    assert_eq!(stored().await.failures, failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_the_oldest_records_are_dropped() {
    const LIMIT: usize = 100;
    // Marks are a sixteenth of the limit apart, and an entry has up to 32 records.
    const MOST: usize = LIMIT + LIMIT.div_ceil(16) + 32;
    let fixture = Fixture::start_with(|options| options.backend("history.max_events", 16 * LIMIT)).await;
    let events: Vec<_> = (0..3 * LIMIT)
        .map(|number| {
            let at = format!("2025-06-22T10:{:02}:{:02}Z", number / 60, number % 60);
            fixture.event("many", Feature::Extraction, Stage::Completed, &at)
        })
        .collect();
    for event in &events {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(events.len()).await;
    fixture.nothing_left_over().await;
    assert_eq!(records(&fixture, &events[0]), []);
    assert_eq!(records(&fixture, &events[events.len() - 1]).len(), 1);
    let listed = fixture.stack.backend_command(&["events", "--limit", "1000"]).unwrap().lines().count();
    assert!((LIMIT..=MOST).contains(&listed), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_delivered_again_shows_how_often() {
    let fixture = Fixture::start().await;
    let event = fixture.event("again", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.send_accepted(&event).await;
    let story = || -> serde_json::Value {
        serde_json::from_str(&fixture.stack.backend_command(&["show", &event.key]).unwrap()).unwrap()
    };
    assert_eq!(story().get("redelivered"), None);
    let mut other = event.clone();
    other.body = event.body.replacen('{', "{ ", 1);
    for again in [&event, &event, &other] {
        assert_eq!(fixture.sender.send(again).await, Answer::Duplicate(event.key.clone()));
    }
    let limit = |bytes: u64| fixture.redis::<String>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes));
    limit(1);
    assert_eq!(fixture.sender.send(&event).await, Answer::Duplicate(event.key.clone()), "Redis is full");
    limit(0);
    let redelivered = &story()["redelivered"];
    assert_eq!((&redelivered["sameBody"], &redelivered["otherBody"]), (&2.into(), &1.into()), "{redelivered}");
    assert!(redelivered["lastAtMs"].as_u64() >= story()["receivedAtMs"].as_u64(), "{redelivered}");
    fixture.nothing_left_over().await;

    // What is forgotten includes the counts, also if another event of the case is kept.
    fixture.stack.backend_command(&["pause", "forensics"]).unwrap();
    fixture.send_accepted(&fixture.event("again", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z")).await;
    fixture.stack.backend_command(&["forget", "--case", "again"]).unwrap();
    let case = CaseId::new("again").unwrap();
    let fields: Vec<String> = fixture.redis(redis::cmd("HKEYS").arg(keys::of_case(&case).case(&case)));
    assert!(!fields.is_empty() && fields.iter().all(|field| !field.starts_with("again:")), "{fields:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_found_on_every_server_of_a_cluster() {
    let fixture = Fixture::start_with(|options| Options { group: Some(Kind::Cluster), ..options }).await;
    let events = fixture.events("spread", 48);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(events.len()).await;
    let lines = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let printed = fixture.stack.backend_command(arguments).unwrap();
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let all = || sorted(events.iter().map(|event| event.key.clone()).collect());
    eventually("every event is listed as completed", async || {
        let listed = lines(&["events", "--state", "completed", "--limit", "100"]);
        sorted(listed.iter().map(|event| event["eventKey"].as_str().unwrap().to_owned()).collect()) == all()
    })
    .await;
    for event in [&events[0], &events[47]] {
        let story = &lines(&["show", &event.key])[0];
        let steps: Vec<_> = story["timeline"].as_array().unwrap().iter().map(|step| step["happened"].clone()).collect();
        assert_eq!(steps, ["received", "completed"], "{story}");
        let case = event.key.split(':').nth(1).unwrap();
        let forgotten = &lines(&["forget", "--case", case])[0];
        assert_eq!(
            (&forgotten["erased"]["records"], &forgotten["erased"]["keys"]),
            (&1.into(), &1.into()),
            "{forgotten}"
        );
    }
    assert_eq!(lines(&["events", "--limit", "100"]).len(), events.len() - 2);
}
