//! Redeliveries of events that are dead letters.

use axum::http::StatusCode;
use envelope::{CaseId, Feature, Stage};
use harness::{
    keys,
    simulator::{sender::Answer, world::Event},
};

use crate::fixture::{Fixture, eventually};

/// Returns an event that is a dead letter because the application answered 410.
async fn dead_letter(fixture: &Fixture, case: &str) -> Event {
    let event = fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.simulator.application.fail_next([(StatusCode::GONE, std::time::Duration::ZERO)]);
    fixture.send_accepted(&event).await;
    eventually("the event is a dead letter", async || {
        letters(fixture).iter().any(|letter| letter.contains(&event.key))
    })
    .await;
    event
}

/// The lines of `backend dead`.
fn letters(fixture: &Fixture) -> Vec<String> {
    fixture.stack.backend_command(&["dead"]).unwrap().lines().map(str::to_owned).collect()
}

/// How many requests the ingest has answered like this.
async fn answered(fixture: &Fixture, answer: &str) -> u64 {
    let label = format!("answer=\"{answer}\"");
    fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_ingest_total", &[&label])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_dead_letter_returns_to_its_lane() {
    let fixture = Fixture::start().await;
    let event = dead_letter(&fixture, "revived").await;
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    assert_eq!(letters(&fixture), [""; 0]);
    assert_eq!(answered(&fixture, "revived").await, 1);
    assert_eq!(fixture.sender.send(&event).await, Answer::Duplicate(event.key.clone()));
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_with_another_body_revives_the_body_that_was_stored_first() {
    let fixture = Fixture::start().await;
    let event = dead_letter(&fixture, "other-body").await;
    let other = Event { body: format!("{} ", event.body), ..event.clone() };
    fixture.send_accepted(&other).await;
    fixture.delivered_once(1).await;
    assert_eq!(letters(&fixture), [""; 0]);
    assert_eq!((answered(&fixture, "revived").await, answered(&fixture, "revived_conflict").await), (0, 1));
    let is_warning = |line: &str| line.contains("WARN") && line.contains("another body") && line.contains(&event.key);
    assert!(fixture.stack.backend.log().lines().any(is_warning), "the conflict is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revived_event_gets_the_fields_that_an_older_backend_did_not_write() {
    let fixture = Fixture::start().await;
    let event = dead_letter(&fixture, "older").await;
    let keys = keys::of_case(&CaseId::new(event.case.as_str()).unwrap());
    let redis = fixture.stack.redis.as_ref().unwrap();
    redis.ask::<()>(&["DEL", &keys.dead()]).unwrap();
    let older = [("body", event.body.as_str()), ("code", "sink_rejected"), ("attempts", "1")];
    let older: Vec<_> = older.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let letter: String = redis.ask(&[&["XADD", &keys.dead(), "*"], &older[..]].concat()).unwrap();
    let seen = keys.seen_as(&event.key);
    let hash: String = redis.ask(&["GETRANGE", &seen, "0", "15"]).unwrap();
    redis.ask::<()>(&["SET", &seen, &format!("{hash} {letter}"), "KEEPTTL"]).unwrap();

    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    fixture.send_accepted(&event).await;
    let inbox = keys.inbox(Feature::Extraction);
    let entries: redis::streams::StreamRangeReply = redis.ask(&["XRANGE", &inbox, "-", "+"]).unwrap();
    let revived = &entries.ids[0];
    assert_eq!(revived.get::<String>("key").as_ref(), Some(&event.key));
    assert_eq!(revived.get::<String>("body").as_ref(), Some(&event.body));
    assert!(revived.get::<u64>("received").unwrap() > 1_750_588_200_000, "{revived:?}");
    assert_eq!(revived.map.len(), 3, "{revived:?}");
    fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    fixture.delivered_once(1).await;
    assert_eq!(fixture.sender.send(&event).await, Answer::Duplicate(event.key.clone()));
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_after_a_replay_is_a_duplicate() {
    let fixture = Fixture::start().await;
    let event = dead_letter(&fixture, "replayed").await;
    assert!(fixture.stack.backend_command(&["replay"]).unwrap().starts_with("replayed 1 dead letter"));
    fixture.delivered_once(1).await;
    assert_eq!(fixture.sender.send(&event).await, Answer::Duplicate(event.key.clone()));
    assert_eq!(answered(&fixture, "revived").await, 0);
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_after_the_dead_letter_expired_is_stored_as_new() {
    let fixture = Fixture::start().await;
    let event = dead_letter(&fixture, "expired").await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    for keys in keys::of_all_partitions() {
        redis::cmd("XTRIM").arg(keys.dead()).arg("MAXLEN").arg(0).exec(&mut connection).unwrap();
    }
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;
    let case = CaseId::new(event.case.as_str()).unwrap();
    let counts = keys::of_case(&case).case(&case);
    let received: u64 = redis::cmd("HGET").arg(counts).arg("extraction").query(&mut connection).unwrap();
    assert_eq!(received, 1, "the event is counted once, although it was stored twice");
}
