//! How long an event is retried: independent of the application's answers and of wrong clocks.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::keys;
use redis::AsyncCommands;

use crate::fixture::{Fixture, PATIENCE, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

/// Starts a stack with one event, whose application rejects the first `failures` deliveries.
async fn outage(failures: usize, mutation: Option<&str>) -> Fixture {
    let fixture = Fixture::start_with(|mut options| {
        options.mutation = mutation.map(str::to_owned);
        options.backend("worker.backoff_cap_ms", 20)
    })
    .await;
    fixture.simulator.application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); failures]);
    fixture.send_accepted(&fixture.event("outage", Feature::Extraction, Stage::Completed, AT)).await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_application_creates_no_dead_letters_however_many_attempts_fail() {
    let fixture = outage(40, None).await;
    fixture.delivered_once(1).await;
    assert_eq!(fixture.dead_letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outage_test_notices_if_events_are_given_up_by_their_number_of_attempts() {
    let fixture = outage(40, Some("give-up-by-count")).await;
    let expected = [("sink_rejected".to_owned(), 1)];
    eventually("the mutated backend gives up", async || fixture.dead_letters().await == expected).await;
    assert_eq!(fixture.simulator.application.counts(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_past_its_age_limit_still_gets_the_minimum_number_of_attempts() {
    let fixture =
        Fixture::start_with(|options| options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 5))
            .await;
    let rejected = (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    fixture.simulator.application.fail_next([rejected; 4]);
    fixture.send_accepted(&fixture.event("fifth", Feature::Extraction, Stage::Completed, AT)).await;
    fixture.delivered_once(1).await;
    fixture.simulator.application.fail_next([rejected; 5]);
    fixture.send_accepted(&fixture.event("sixth", Feature::Extraction, Stage::Completed, AT)).await;
    let expected = [("sink_rejected".to_owned(), 1)];
    eventually("the fifth attempt was the last", async || fixture.dead_letters().await == expected).await;
}

/// A backend whose clock was ahead has scheduled a retry, and another backend reads its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_scheduled_by_a_clock_that_was_ahead_waits_at_most_the_longest_backoff() {
    let mut fixture = Fixture::start_with(|options| options.backend("worker.backoff_cap_ms", 2_000)).await;
    let day = Duration::from_secs(86_400);
    let ahead = [("a-day", day), ("three-years", day * 3 * 365)];
    let down = (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
    fixture.simulator.application.fail_next(vec![down; 1_000]);
    for (case, _) in ahead {
        fixture.send_accepted(&fixture.event(case, Feature::Extraction, Stage::Completed, AT)).await;
    }
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut waiting = Vec::new();
    eventually("both wait for retry", async || {
        waiting = waiting_for_retry(&mut redis).await;
        waiting.len() == 2
    })
    .await;
    fixture.stack.backend.stop(PATIENCE).unwrap();
    for ((attempts, entry), (_, ahead)) in waiting_for_retry(&mut redis).await.into_iter().zip(ahead) {
        let due = (SystemTime::now() + ahead).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let () = redis.hset(attempts, entry, format!("1 {due}")).await.unwrap();
    }
    fixture.simulator.application.heal();
    fixture.stack.start_backend().unwrap();
    fixture.delivered_once(2).await;
    fixture.nothing_left_over().await;
}

/// The Redis hash and field of each extraction event that waits for retry.
async fn waiting_for_retry(redis: &mut redis::aio::MultiplexedConnection) -> Vec<(String, String)> {
    let mut waiting = Vec::new();
    for keys in keys::of_all_partitions() {
        let attempts = keys.attempts(Feature::Extraction);
        let entries: Vec<String> = redis.hkeys(&attempts).await.unwrap();
        waiting.extend(entries.into_iter().map(|entry| (attempts.clone(), entry)));
    }
    waiting
}
