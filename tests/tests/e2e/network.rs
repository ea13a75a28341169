//! The network between the backends and their dependencies fails. No accepted event is lost, or
//! repeated without need.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use envelope::{
    Feature, Stage,
    headers::{self, Judgement, Mark},
};
use harness::{
    backend_settings::PROOF,
    chaos::{self, Chaos, Kind, Path},
    namespace::Namespace,
    proxy::{Fault, Proxy},
    redis_server::{EVERY_SECOND, FSYNC, RedisOptions, RedisServer},
    simulator::{
        sender::{Answer, client},
        world::Event,
    },
    stack::Options,
    tools,
};
use redis::AsyncCommands;
use reqwest::StatusCode;

use crate::fixture::{Fixture, eventually, redis};

async fn proxied(replicas: usize) -> Fixture {
    Fixture::start_with(|options| {
        let options = Options { proxied: true, replicas, ..options };
        options
            .backend("ingest.store_timeout_ms", 300)
            .backend("sink.timeout_ms", 500)
            .backend("partner_api.timeout_ms", 500)
    })
    .await
}

fn event(fixture: &Fixture, case: &str) -> Event {
    fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_lost_answer_of_redis_is_a_duplicate_and_the_event_is_handled_once() {
    let fixture = proxied(0).await;
    fixture.send_accepted(&event(&fixture, "before")).await;
    let event = event(&fixture, "cut-off");
    let to_redis = fixture.stack.networks[0].redis.as_ref().unwrap();
    to_redis.fail(Fault::AnswersCut);
    let sending = {
        let sender = fixture.sender.clone();
        let event = event.clone();
        tokio::spawn(async move { sender.send(&event).await })
    };
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    eventually("Redis has stored the event", async || {
        let seen: Vec<String> = connection.keys("*:seen:*cut-off*").await.unwrap();
        seen.len() == 1
    })
    .await;
    eventually("Envoy has retried", async || {
        fixture.stack.envoy_metrics().await.unwrap().sum("envoy_cluster_upstream_rq_retry", &["backend"]) > 0
    })
    .await;
    to_redis.heal();
    assert_eq!(sending.await.unwrap(), Answer::Duplicate(event.key), "no earlier retry was answered with 202");
    fixture.delivered(2).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_whose_answer_was_lost_is_delivered_again_with_the_same_idempotency_key() {
    let fixture = proxied(0).await;
    let sink = &fixture.stack.networks[0].sink;
    sink.fail(Fault::AnswersCut);
    let event = event(&fixture, "cut-off");
    fixture.send_accepted(&event).await;
    eventually("the application got the outcome twice", async || fixture.simulator.application.deliveries().len() >= 2)
        .await;
    sink.heal();
    fixture.nothing_left_over().await;
    let deliveries = fixture.simulator.application.deliveries();
    assert!(deliveries.iter().all(|delivery| delivery.key == event.key), "{deliveries:?}");
    assert_eq!(fixture.simulator.application.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_connections_to_redis_are_replaced_and_nothing_is_rejected() {
    for (policy, settings) in [("always", FSYNC), ("everysec", EVERY_SECOND)] {
        let server = redis(&settings);
        let proxy = Proxy::start(server.address()).unwrap();
        let redis_url = Some(format!("redis://{}", proxy.address()));
        let fixture = Fixture::start_with(|options| Options { redis_url, ..options }).await;
        let steady = fixture.steady(&format!("frozen-{policy}"));
        eventually("there is traffic", async || steady.sent() > 20).await;
        proxy.freeze();
        let before = steady.sent();
        eventually("there was more traffic", async || steady.sent() > before + 50).await;
        let report = fixture.all_accepted_and_delivered(steady).await;
        tools::say(&format!("frozen connections, appendfsync {policy}: the longest wait was {:.1?}", report.longest));
        fixture.nothing_left_over().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_backend_takes_over_from_one_that_cannot_reach_redis_and_nothing_is_rejected() {
    let fixture = proxied(1).await;
    for fault in [Fault::Stalled, Fault::AnswersCut, Fault::RequestsCut, Fault::Reset, Fault::Rejected] {
        let owned = async || {
            let all = fixture.stack.all_backend_metrics().await.unwrap();
            all.iter().map(|metrics| metrics.sum("truenroll_backend_partitions_owned", &[])).collect::<Vec<_>>()
        };
        eventually("each backend has half of the partitions", async || owned().await == [8, 8]).await;
        let steady = fixture.steady(&format!("{fault:?}").to_lowercase());
        eventually("there is traffic", async || steady.sent() > 20).await;
        fixture.stack.networks[0].redis.as_ref().unwrap().fail(fault);
        eventually("the other backend has all partitions", async || owned().await == [0, 16]).await;
        let before = steady.sent();
        eventually("there was more traffic", async || steady.sent() > before + 50).await;
        fixture.all_accepted_and_delivered(steady).await;
        fixture.nothing_left_over().await;
        fixture.stack.networks[0].redis.as_ref().unwrap().heal();
        eventually("each backend has half of the partitions again", async || owned().await == [8, 8]).await;
        assert_eq!(fixture.simulator.application.complaints(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_whatever_the_network_does() {
    let kinds = [Path::Redis, Path::PartnerApi, Path::Sink].map(Kind::Network);
    let faults = kinds.to_vec();
    let duration = Duration::from_secs(15);
    let settling = Duration::from_secs(60);
    let chaos = Chaos { seed: 215, duration, rate: 100.0, backends: 2, redis: None, mutation: None, faults, settling };
    let report = chaos::run(&chaos).await.unwrap();
    println!("  {report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(kinds.iter().all(|kind| report.count(*kind) > 0), "{report}");
}

/// The local ports of this machine's established connections to an address, according to the
/// kernel.
fn established(to: SocketAddr) -> BTreeSet<u16> {
    let IpAddr::V4(address) = to.ip() else { return BTreeSet::new() };
    let remote = format!("{:08X}:{:04X}", address.to_bits().swap_bytes(), to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(2) == Some(&remote.as_str()) && row.get(3) == Some(&"01"));
    ours.map(|row| u16::from_str_radix(row[1].split_once(':').unwrap().1, 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_vanished_redis_host_are_given_up_soon_and_reopened_when_it_is_back() {
    let namespace = match Namespace::start() {
        Ok(namespace) => namespace,
        Err(reason) => return tools::say(&format!("skipping the test of a vanished host: {reason:#}")),
    };
    // Declared after the namespace, so that the server is stopped first: it would keep the
    // namespace alive.
    let server = RedisServer::start_in(&namespace, RedisOptions::with(&FSYNC)).unwrap();
    let fixture = Fixture::start_with(|options| {
        let options = Options { redis_url: Some(server.url()), ..options };
        options.backend("ingest.store_timeout_ms", 300)
    })
    .await;
    let before = fixture.events("before", 10);
    for event in &before {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(10).await;

    // Events are sent straight to the backend, since Envoy would retry for longer.
    let client = client();
    let ingest = fixture.stack.ingest();
    let send = async |event: &Event| -> StatusCode {
        let judged = Judgement::write(PROOF, "test", Mark::Accepted);
        let request = client.post(&ingest).header("content-type", "application/json").header(headers::JUDGED, judged);
        request.body(event.body.clone()).send().await.unwrap().status()
    };
    let old = established(server.address());
    namespace.disappear().unwrap();
    let gone = Instant::now();
    let during = event(&fixture, "during");
    eventually("the old connections are closed", async || {
        assert_eq!(send(&during).await, 503);
        established(server.address()).is_disjoint(&old)
    })
    .await;
    println!("  the old connections were closed after {:.1?}", gone.elapsed());
    namespace.reappear().unwrap();
    let back = Instant::now();
    eventually("events are stored again", async || send(&during).await == 202).await;
    println!("  events were stored again after {:.1?}", back.elapsed());
    fixture.delivered_once(11).await;
}
