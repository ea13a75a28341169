//! Events that are not true: an event is only a hint, and the Partner API decides.

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
async fn a_completed_event_is_delivered_only_once_the_api_shows_its_stage_at_its_end() {
    for refuses_early in [false, true] {
        let fixture = Fixture::start().await;
        let world = &fixture.simulator.world;
        if refuses_early {
            world.reject_unfinished();
        }
        world.upload("queued", None, &Feature::ALL);
        for feature in Feature::ALL {
            fixture.send_accepted(&world.forge("queued", feature, Stage::Completed, AT).unwrap()).await;
        }
        eventually("each was looked at more than once", async || retries(&fixture, "not_ready").await >= 12).await;
        assert_eq!(fixture.simulator.application.counts(), (0, 0), "refuses_early: {refuses_early}");
        for (number, feature) in (1..).zip(Feature::ALL) {
            world.finish("queued", feature, Stage::Completed, AT).unwrap();
            fixture.delivered_once(number).await;
        }
        fixture.nothing_left_over().await;
        assert_eq!(fixture.dead_letters().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_that_the_call_failed_is_retried_and_never_delivered() {
    let fixture = Fixture::start().await;
    fixture.simulator.world.answer_unsuccessful(3);
    fixture.send_accepted(&fixture.event("unsuccessful", Feature::Extraction, Stage::Completed, AT)).await;
    fixture.delivered_once(1).await;
    let delivery = &fixture.simulator.application.deliveries()[0];
    assert!(delivery.body["outcome"]["result"]["id"] == "unsuccessful", "{}", delivery.body);
    assert_eq!(retries(&fixture, "api_unsuccessful").await, 3);
}

/// The calls each second in the test below, and how many of them go to cases that were never seen.
const RATE: f64 = 10.0;
const SHARE: f64 = 0.1;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_cases_that_do_not_exist_does_not_starve_those_that_do() {
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
    let (mut sending, few) = (JoinSet::new(), Arc::new(Semaphore::new(64)));
    for number in 0..5_000 {
        let forged =
            fixture.simulator.world.forge(&format!("forged-{number}"), Feature::ALL[number % 4], Stage::Completed, AT);
        let (forged, sender, few) = (forged.unwrap(), Arc::clone(&fixture.sender), Arc::clone(&few));
        sending.spawn(async move {
            let _permit = few.acquire_owned().await;
            sender.send(&forged).await
        });
    }
    let answers = sending.join_all().await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Accepted(_) | Answer::Duplicate(_))));
    println!("5,000 forged events in {:?}", flood.elapsed());

    let begun = Instant::now();
    for case in &cases {
        fixture.send_accepted(&fixture.event(case, Feature::Forensics, Stage::Completed, AT)).await;
    }
    fixture.delivered_once(40).await;
    println!("20 genuine events in {:?}", begun.elapsed());

    // The share is spent, and not exceeded: until the flood was noticed calls were made for it as
    // for any new case.
    let before = (Instant::now(), fixture.simulator.world.not_found());
    eventually("calls go on for cases that were never seen", async || {
        before.0.elapsed() > Duration::from_secs(3) && fixture.simulator.world.not_found() > before.1
    })
    .await;
    let (spent, elapsed) = (fixture.simulator.world.not_found(), flood.elapsed());
    println!("{spent} calls for forged events in {elapsed:?}");
    assert!((spent as f64) < 120.0 + RATE * SHARE * elapsed.as_secs_f64(), "{spent} calls in {elapsed:?}");
    assert!(retries(&fixture, "api_held_back").await > 1_000);
}
