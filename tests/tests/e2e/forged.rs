//! Forged events. An event is only a hint; the Partner API decides what is true.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use envelope::{Feature, Stage};
use harness::simulator::sender::Answer;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::fixture::{Fixture, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

async fn retries(fixture: &Fixture, code: &str) -> u64 {
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    metrics.sum("truenroll_backend_retries_total", &[&format!("code=\"{code}\"")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_event_is_delivered_only_after_the_api_shows_its_stage_as_finished() {
    for rejects_unfinished in [false, true] {
        let fixture = Fixture::start().await;
        let world = &fixture.simulator.world;
        if rejects_unfinished {
            world.reject_unfinished();
        }
        world.upload("queued", None, &Feature::ALL);
        for feature in Feature::ALL {
            fixture.send_accepted(&world.forge("queued", feature, Stage::Completed, AT).unwrap()).await;
        }
        eventually("each event had several attempts", async || retries(&fixture, "not_ready").await >= 12).await;
        assert_eq!(fixture.simulator.application.counts(), (0, 0), "rejects_unfinished: {rejects_unfinished}");
        for (number, feature) in (1..).zip(Feature::ALL) {
            world.finish("queued", feature, Stage::Completed, AT).unwrap();
            fixture.delivered_once(number).await;
        }
        fixture.nothing_left_over().await;
        assert_eq!(fixture.dead_letters().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsuccessful_api_answer_is_retried_and_never_delivered() {
    let fixture = Fixture::start().await;
    fixture.simulator.world.answer_unsuccessful(3);
    fixture.send_accepted(&fixture.event("unsuccessful", Feature::Extraction, Stage::Completed, AT)).await;
    fixture.delivered_once(1).await;
    let delivery = &fixture.simulator.application.deliveries()[0];
    assert!(delivery.body["outcome"]["result"]["id"] == "unsuccessful", "{}", delivery.body);
    assert_eq!(retries(&fixture, "api_unsuccessful").await, 3);
}

/// The calls of the Partner API per second in the test below.
const RATE: f64 = 10.0;
/// The share of these calls for cases that were never seen.
const SHARE: f64 = 0.1;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_for_nonexistent_cases_does_not_starve_genuine_cases() {
    let fixture = Fixture::start_with(|options| {
        options
            .backend("partner_api.rate_per_second", RATE)
            .backend("partner_api.unknown_share", SHARE)
            .backend("worker.backoff_cap_ms", 600_000)
    })
    .await;
    let cases: Vec<_> = (0..20).map(|number| format!("genuine-{number}")).collect();
    for case in &cases {
        fixture.send_accepted(&fixture.event(case, Feature::Extraction, Stage::Completed, AT)).await;
    }
    fixture.delivered_once(20).await;

    let flood = Instant::now();
    let mut sending = JoinSet::new();
    let few = Arc::new(Semaphore::new(64));
    for number in 0..3_000 {
        let forged =
            fixture.simulator.world.forge(&format!("forged-{number}"), Feature::ALL[number % 4], Stage::Completed, AT);
        let forged = forged.unwrap();
        let sender = Arc::clone(&fixture.sender);
        let few = Arc::clone(&few);
        sending.spawn(async move {
            let _permit = few.acquire_owned().await;
            sender.send(&forged).await
        });
    }
    let answers = sending.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Accepted(_) | Answer::Duplicate(_))));
    println!("3,000 forged events were accepted in {:?}", flood.elapsed());

    let begun = Instant::now();
    for case in &cases {
        fixture.send_accepted(&fixture.event(case, Feature::Forensics, Stage::Completed, AT)).await;
    }
    fixture.delivered_once(40).await;
    println!("20 genuine events were delivered in {:?}", begun.elapsed());

    // The share is used but not exceeded. Before the flood was noticed, its cases were treated like
    // any new case.
    let began = Instant::now();
    let calls_before = fixture.simulator.world.not_found();
    eventually("further calls are made for cases that were never seen", async || {
        began.elapsed() > Duration::from_secs(3) && fixture.simulator.world.not_found() > calls_before
    })
    .await;
    let spent = fixture.simulator.world.not_found();
    let elapsed = flood.elapsed();
    println!("{spent} calls were made for forged events in {elapsed:?}");
    assert!((spent as f64) < 120.0 + RATE * SHARE * elapsed.as_secs_f64(), "{spent} calls in {elapsed:?}");
    assert!(retries(&fixture, "api_held_back").await > 1_000);
}
