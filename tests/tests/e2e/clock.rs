//! The clocks of backends jump, by hours, a day and three years, ahead and back.

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

/// Each jump: where the clock is while an attempt fails, and where it is afterwards.
const JUMPS: [(i64, i64); 6] = [(4 * HOUR, 0), (DAY, 0), (YEARS, 0), (0, YEARS), (0, -DAY), (YEARS, -YEARS)];

async fn with_clocks() -> Fixture {
    let fixture = Fixture::start_with(|options| {
        // By a clock that is years ahead every event is old enough to be given up.
        Options { clocks: true, ..options }.backend("worker.min_attempts", 1_000)
    })
    .await;
    fixture.simulator.application.accept_any_time();
    fixture
}

/// Events in one lane each whose first attempts fail under one clock. What is then noted is read
/// under another one.
async fn jumps(restarts: bool) {
    if !tools::has_faketime() {
        return;
    }
    let mut fixture = with_clocks().await;
    for (number, (before, after)) in JUMPS.into_iter().enumerate() {
        fixture.stack.clocks[0].set(before).unwrap();
        let refused = (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);
        fixture.simulator.application.fail_next(vec![refused; 10_000]);
        let event = |case: String| fixture.event(&case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
        let retries =
            async || fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]);
        let failed = retries().await;
        for lane in 0..5 {
            fixture.send_accepted(&event(format!("jump-{number}-{lane}"))).await;
        }
        eventually("attempts have failed", async || retries().await >= failed + 20).await;
        fixture.stack.clocks[0].set(after).unwrap();
        if restarts {
            fixture.stack.backend.kill().unwrap();
            fixture.stack.start_backend().unwrap();
        }
        fixture.simulator.application.heal();
        fixture.delivered_once(5 * (number + 1)).await;
        assert_eq!(fixture.dead_letters().await, [], "{before} {after}");
    }
    fixture.nothing_left_over().await;
    // Otherwise the clocks would not have jumped.
    let noticed = fixture.stack.backend.log().contains("a clock is or was wrong");
    assert_eq!(noticed, restarts, "only what is read again from Redis can be due too far ahead");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_while_events_wait_for_a_retry_neither_holds_them_up_nor_gives_them_up() {
    jumps(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_noted_under_another_clock_neither_holds_the_next_owner_up_nor_makes_it_give_up() {
    jumps(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_clocks_say_every_promise_is_kept() {
    let (duration, settling) = (Duration::from_secs(12), Duration::from_secs(60));
    let faults = vec![Kind::ClockJumped, Kind::ClockJumped, Kind::BackendKilled, Kind::Application];
    let chaos = Chaos { seed: 5, duration, rate: 100.0, backends: 2, redis: None, mutation: None, faults, settling };
    let report = chaos::run(&chaos).await.unwrap();
    println!("  {report}");
    assert!(report.violations.is_empty(), "{report}");
}
