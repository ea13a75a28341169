//! The clocks of backends jump by hours, a day and three years, forwards and backwards.

use std::time::Duration;

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    chaos::{self, Chaos, Kind},
    stack::Options,
    tools,
};

use crate::fixture::{Fixture, eventually};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const YEARS: i64 = 3 * 365 * DAY;

/// Each jump: how far ahead the clock is in seconds while an attempt fails, and afterwards.
const JUMPS: [(i64, i64); 6] = [(4 * HOUR, 0), (DAY, 0), (YEARS, 0), (0, YEARS), (0, -DAY), (YEARS, -YEARS)];

/// Which backend makes the attempts after a jump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextAttemptBy {
    /// The one that scheduled the retries.
    SameBackend,
    /// One that reads the times of the retries from Redis.
    RestartedBackend,
}

async fn with_clocks() -> Fixture {
    let fixture = Fixture::start_with(|options| {
        // For a backend whose clock is years ahead, every event is old enough to be given up.
        Options { clocks: true, ..options }.backend("worker.min_attempts", 1_000)
    })
    .await;
    fixture.simulator.application.accept_any_time();
    fixture
}

/// Lets the first attempts of events fail under one clock, and the next ones run under another.
async fn jumps(next_attempt_by: NextAttemptBy) {
    if !tools::has_faketime() {
        return;
    }
    let mut fixture = with_clocks().await;
    for (number, (before, after)) in JUMPS.into_iter().enumerate() {
        fixture.stack.clocks[0].set(before).unwrap();
        let rejected = (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
        fixture.simulator.application.fail_next(vec![rejected; 10_000]);
        let event = |case: String| fixture.event(&case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
        let retries =
            async || fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]);
        let failed = retries().await;
        for lane in 0..5 {
            fixture.send_accepted(&event(format!("jump-{number}-{lane}"))).await;
        }
        eventually("attempts have failed", async || retries().await >= failed + 20).await;
        fixture.stack.clocks[0].set(after).unwrap();
        if next_attempt_by == NextAttemptBy::RestartedBackend {
            fixture.stack.backend.kill().unwrap();
            fixture.stack.start_backend().unwrap();
        }
        fixture.simulator.application.heal();
        fixture.delivered_once(5 * (number + 1)).await;
        assert_eq!(fixture.dead_letters().await, [], "{before} {after}");
    }
    fixture.nothing_left_over().await;
    // This also shows that the clocks did jump.
    let noticed = fixture.stack.backend.log().contains("a clock is or was wrong");
    assert_eq!(
        noticed,
        next_attempt_by == NextAttemptBy::RestartedBackend,
        "only a restarted backend reads retry times from Redis, and finds them too far ahead"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_jump_neither_delays_events_that_wait_for_retry_nor_gives_them_up() {
    jumps(NextAttemptBy::SameBackend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_times_written_by_a_wrong_clock_neither_delay_events_nor_give_them_up() {
    jumps(NextAttemptBy::RestartedBackend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_while_clocks_jump() {
    let duration = Duration::from_secs(10);
    let settling = Duration::from_secs(60);
    let faults = vec![Kind::ClockJumped, Kind::ClockJumped, Kind::BackendKilled, Kind::Application];
    let chaos = Chaos { seed: 5, duration, rate: 100.0, backends: 2, redis: None, mutation: None, faults, settling };
    let report = chaos::run(&chaos).await.unwrap();
    println!("  {report}");
    assert!(report.violations.is_empty(), "{report}");
}
