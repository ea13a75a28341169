//! No event is acknowledged while Redis is not proven to have the required settings.

use std::time::Duration;

use harness::{
    redis_server::{FSYNC, IN_MEMORY, RedisOptions, RedisServer},
    simulator::{sender::Answer, world::Event},
    stack::Options,
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    fixture::{Fixture, eventually, redis},
    start::backend,
};

async fn over(server: &RedisServer, mutation: Option<&str>) -> Fixture {
    let redis_url = Some(server.url());
    let mutation = mutation.map(str::to_owned);
    Fixture::start_with(|options| Options { redis_url, mutation, ..options }.backend("ingest.store_timeout_ms", 500))
        .await
}

/// The number of requests that the backend has answered with `answer`.
async fn answered(fixture: &Fixture, answer: &str) -> u64 {
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    metrics.sum("truenroll_backend_ingest_total", &[&format!("answer=\"{answer}\"")])
}

/// Sends all events at once. Envoy retries each until it is accepted.
fn send_all(fixture: &Fixture, events: Vec<Event>) -> Vec<JoinHandle<()>> {
    let send = |event: Event| {
        let sender = fixture.sender.clone();
        tokio::spawn(async move { drop(sender.send(&event).await) })
    };
    events.into_iter().map(send).collect()
}

/// Restarts a durable Redis without its append-only file, and returns how many events are
/// acknowledged after that.
async fn acknowledged_by_a_server_without_a_file(mutation: Option<&str>) -> u64 {
    let mut server = redis(&FSYNC);
    let fixture = over(&server, mutation).await;
    for event in fixture.events("before", 20) {
        fixture.send_accepted(&event).await;
    }
    let accepted = answered(&fixture, "accepted").await;
    let unavailable = answered(&fixture, "unavailable").await;
    server.replace(RedisOptions::with(&IN_MEMORY)).unwrap();
    let sending = send_all(&fixture, fixture.events("after", 40));
    eventually("all events are answered", async || {
        let answers = answered(&fixture, "accepted").await + answered(&fixture, "unavailable").await;
        answers >= accepted + unavailable + 40
    })
    .await;
    let acknowledged = answered(&fixture, "accepted").await - accepted;
    server.replace(RedisOptions::with(&FSYNC)).unwrap();
    for sent in sending {
        sent.await.unwrap();
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_acknowledged_after_redis_restarts_without_its_append_only_file() {
    assert_eq!(acknowledged_by_a_server_without_a_file(None).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_without_an_append_only_file_if_fitness_is_not_checked() {
    assert!(acknowledged_by_a_server_without_a_file(Some("fitness")).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_check_does_not_make_a_server_fit() {
    let server = redis(&FSYNC);
    let fixture = over(&server, None).await;
    let client = redis::Client::open(server.url()).unwrap();
    let set = |value: &str| {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("appendonly").arg(value).exec(&mut connection).unwrap();
    };
    set("no");
    let ready = async || {
        let answer = harness::simulator::sender::client().get(format!("{}/readyz", fixture.stack.admin())).send().await;
        answer.unwrap().status().as_u16()
    };
    eventually("the backend has noticed", async || ready().await == 503).await;
    server.process.signal("STOP").unwrap();
    // This is the fault: several checks in a row get no answer.
    sleep(Duration::from_secs(4)).await;
    server.process.signal("CONT").unwrap();
    let sending = send_all(&fixture, fixture.events("hung", 20));
    eventually("all events are answered", async || {
        answered(&fixture, "accepted").await + answered(&fixture, "unavailable").await >= 20
    })
    .await;
    assert_eq!(answered(&fixture, "accepted").await, 0);
    set("yes");
    for sent in sending {
        sent.await.unwrap();
    }
    eventually("the backend accepts events again", async || ready().await == 200).await;
    for event in fixture.events("hung", 20) {
        eventually("the event is accepted", async || fixture.sender.send(&event).await != Answer::Unavailable).await;
    }
    fixture.delivered(20).await;
}

#[test]
fn a_redis_that_does_not_sync_during_a_rewrite_is_rejected_at_start() {
    let server = redis(&[&FSYNC[..], &["--no-appendfsync-on-rewrite", "yes"]].concat());
    let (code, log) = backend(&[("redis.url", &server.url())]);
    assert!(code == Some(1) && log.contains("set it to `no-appendfsync-on-rewrite no`"), "{log}");
}

#[test]
fn a_sink_without_a_signing_secret_is_warned_about_at_start() {
    // There is no Redis, so the backend ends by itself.
    let url = format!("redis://127.0.0.1:{}", harness::process::free_port().unwrap());
    let log = |secret: &str| {
        let settings = [
            ("redis.url", url.as_str()),
            ("redis.start_timeout_ms", "0"),
            ("sink.kind", "http"),
            ("sink.url", "http://127.0.0.1:1/outcomes"),
            ("sink.secret", secret),
        ];
        backend(&settings).1
    };
    let unsigned = log("");
    assert!(unsigned.contains("WARN") && unsigned.contains("`sink.secret`"), "{unsigned}");
    let signed = log("whsec_c2ltdWxhdG9yLWFuZC1iYWNrZW5kLXNoYXJlLWl0");
    assert!(!signed.contains("`sink.secret`"), "{signed}");
}
