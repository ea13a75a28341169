//! A short chaos run with each kind of Redis; and that the checker notices where a protection is taken out.

use std::time::Duration;

use harness::{
    chaos::{Chaos, Kind, Violation, run},
    stack::group,
};

fn chaos(seconds: u64, faults: &[Kind], mutation: Option<&str>) -> Chaos {
    let mutation = mutation.map(str::to_owned);
    let (duration, settling) =
        (Duration::from_secs(seconds), Duration::from_secs(if mutation.is_some() { 10 } else { 60 }));
    Chaos { seed: 7, duration, rate: 100.0, backends: 2, redis: None, mutation, faults: faults.to_vec(), settling }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_every_promise_is_kept() {
    let report = run(&chaos(20, &Kind::USUAL, None)).await.unwrap();
    println!("  {report}");
    assert!(report.violations.is_empty(), "{report}");
}

async fn fails_over(redis: group::Kind) {
    let faults = [Kind::RedisKilled, Kind::BackendKilled, Kind::BackendStopped, Kind::Application];
    let report = run(&Chaos { redis: Some(redis), ..chaos(15, &faults, None) }).await.unwrap();
    println!("  {redis:?} {report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.count(Kind::RedisKilled) > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_under_sentinels_is_replaced_and_every_promise_is_kept() {
    fails_over(group::Kind::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_primaries_and_every_promise_is_kept() {
    fails_over(group::Kind::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fencing_the_checker_finds_events_handled_twice() {
    let report = run(&chaos(12, &[Kind::BackendStopped], Some("fencing"))).await.unwrap();
    assert!(report.violations.iter().any(|violation| matches!(violation, Violation::Twice(_))), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_atomic_script_the_checker_finds_events_lost() {
    let report = run(&chaos(8, &[Kind::BackendKilled], Some("atomicity"))).await.unwrap();
    assert!(report.violations.iter().any(|violation| matches!(violation, Violation::Lost(_))), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_recovery_the_checker_finds_events_lost() {
    let report = run(&chaos(8, &[Kind::BackendKilled], Some("recovery"))).await.unwrap();
    assert!(report.violations.iter().any(|violation| matches!(violation, Violation::Lost(_))), "{report}");
}
