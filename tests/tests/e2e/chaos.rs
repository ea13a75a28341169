//! Short chaos runs with each kind of Redis, and runs that show that the checker notices a missing
//! protection.

use std::time::Duration;

use harness::{
    chaos::{Chaos, Kind, Violation, run},
    stack::group,
};

fn chaos(seconds: u64, faults: &[Kind], mutation: Option<&str>) -> Chaos {
    // Events that a mutated backend loses never settle.
    let settling = Duration::from_secs(if mutation.is_some() { 5 } else { 60 });
    let duration = Duration::from_secs(seconds);
    let mutation = mutation.map(str::to_owned);
    Chaos { seed: 7, duration, rate: 100.0, backends: 2, redis: None, mutation, faults: faults.to_vec(), settling }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_whatever_fails() {
    let report = run(&chaos(15, &Kind::USUAL, None)).await.unwrap();
    println!("  {report}");
    assert!(report.violations.is_empty(), "{report}");
}

/// Runs chaos over several Redis servers.
async fn fails_over(redis: group::Kind) {
    let faults = [Kind::RedisKilled, Kind::BackendKilled, Kind::BackendStopped, Kind::Application];
    let report = run(&Chaos { redis: Some(redis), ..chaos(12, &faults, None) }).await.unwrap();
    println!("  {redis:?} {report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.count(Kind::RedisKilled) > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_while_sentinels_replace_the_primary() {
    fails_over(group::Kind::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_while_a_cluster_loses_primaries() {
    fails_over(group::Kind::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_events_handled_twice_without_fencing() {
    // Whether a backend is stopped while it handles an event is chance, so a run may find nothing.
    let mut reports = String::new();
    for seed in 7..10 {
        let report = run(&Chaos { seed, ..chaos(12, &[Kind::BackendStopped], Some("fencing")) }).await.unwrap();
        if report.violations.iter().any(|violation| matches!(violation, Violation::Twice(_))) {
            return;
        }
        reports += &format!("{report}\n");
    }
    panic!("{reports}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_lost_events_without_the_atomic_script() {
    let report = run(&chaos(8, &[Kind::BackendKilled], Some("atomicity"))).await.unwrap();
    assert!(report.violations.iter().any(|violation| matches!(violation, Violation::Lost(_))), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checker_finds_lost_events_without_recovery() {
    let report = run(&chaos(8, &[Kind::BackendKilled], Some("recovery"))).await.unwrap();
    assert!(report.violations.iter().any(|violation| matches!(violation, Violation::Lost(_))), "{report}");
}
