//! What must be true before an event counts as stored.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use backend::test_support::inbox::{Accepted, Arrival, Inbox, Origin};
use envelope::{Envelope, Feature, Stage};
use harness::{
    redis_server::{EVERY_SECOND, FSYNC, IN_MEMORY, Readiness, RedisOptions},
    simulator::{sender::Answer, world::Event},
    stack::Options,
};

use crate::fixture::{Fixture, config, eventually, redis};

#[tokio::test(flavor = "multi_thread")]
async fn with_replica_durability_an_event_is_accepted_only_after_a_replica_has_it() {
    let primary = redis(&IN_MEMORY);
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = redis(&[&IN_MEMORY[..], &["--replicaof", &of]].concat());
    let info = |port: u16| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        redis::cmd("INFO").arg("replication").query::<String>(&mut client.get_connection().unwrap()).unwrap()
    };
    eventually("the replica is connected", async || info(replica.port()).contains("master_link_status:up")).await;
    let redis_url = Some(primary.url());
    let fixture = Fixture::start_with(|options| {
        let options = Options { redis_url, ..options };
        options.backend("redis.durability", "replicas:1").backend("ingest.store_timeout_ms", 1_000)
    })
    .await;
    let event = |at: &str| fixture.event("replicas", Feature::Forensics, Stage::Completed, at);
    fixture.send_accepted(&event("2025-06-22T10:30:00Z")).await;

    // The replica hangs: the event is stored, but must not be acknowledged.
    replica.process.signal("STOP").unwrap();
    let second = event("2025-06-22T10:30:01Z");
    let sending = tokio::spawn({
        let sender = fixture.sender.clone();
        let second = second.clone();
        async move { sender.send(&second).await }
    });
    eventually("the backend answers that the event could not be stored", async || {
        fixture
            .stack
            .backend_metrics()
            .await
            .unwrap()
            .sum("truenroll_backend_ingest_total", &["answer=\"unavailable\""])
            > 0
    })
    .await;
    assert!(!sending.is_finished(), "Envoy retries");
    replica.process.signal("CONT").unwrap();
    assert_eq!(sending.await.unwrap(), Answer::Duplicate(second.key.clone()));
    fixture.delivered_once(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_accepted_after_redis_loses_a_required_setting() {
    let fixture = Fixture::start().await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let set = |value: &str| {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg(value).exec(&mut connection).unwrap();
    };
    set("no");
    let ready = async || {
        let client = harness::simulator::sender::client();
        client.get(format!("{}/readyz", fixture.stack.admin())).send().await.unwrap().status().as_u16()
    };
    eventually("the backend has noticed", async || ready().await == 503).await;
    assert!(fixture.stack.backend.log().contains("appendfsync no"), "the log says what is wrong");
    let event = fixture.events("unfit", 1).remove(0);
    let sending = tokio::spawn({
        let sender = fixture.sender.clone();
        let event = event.clone();
        async move { sender.send(&event).await }
    });
    eventually("the event is not accepted", async || {
        fixture
            .stack
            .backend_metrics()
            .await
            .unwrap()
            .sum("truenroll_backend_ingest_total", &["answer=\"unavailable\""])
            > 0
    })
    .await;
    set("always");
    eventually("the backend accepts events again", async || ready().await == 200).await;
    assert!(matches!(sending.await.unwrap(), Answer::Accepted(_) | Answer::Unavailable));
    assert!(matches!(fixture.sender.send(&event).await, Answer::Accepted(_) | Answer::Duplicate(_)));
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_appendfsync_everysec_an_event_is_accepted_only_after_it_is_synced() {
    let server = redis(&EVERY_SECOND);
    let redis_url = Some(server.url());
    let fixture = Fixture::start_with(|options| Options { redis_url, ..options }).await;
    let stats = || {
        let client = redis::Client::open(server.url()).unwrap();
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut client.get_connection().unwrap()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_waitaof:calls="));
        line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    assert_eq!(stats(), 0);
    let sending = fixture.events("every-second", 40).into_iter().map(|event| {
        let sender = fixture.sender.clone();
        tokio::spawn(async move { sender.send(&event).await })
    });
    for sent in sending.collect::<Vec<_>>() {
        assert!(matches!(sent.await.unwrap(), Answer::Accepted(_)));
    }
    assert!((1..20).contains(&stats()), "{} calls of WAITAOF for 40 events: concurrent requests share a call", stats());
    fixture.delivered_once(40).await;
}

/// Sends events one after the other until one is not accepted. Returns the accepted events, and
/// that one.
async fn until_one_is_rejected(fixture: &Fixture, name: &str) -> (Vec<Event>, Event) {
    let mut accepted = Vec::new();
    for event in fixture.events(name, 20_000) {
        match fixture.sender.send(&event).await {
            Answer::Accepted(_) => accepted.push(event),
            Answer::Unavailable => return (accepted, event),
            other => panic!("neither accepted nor 503: {other:?}"),
        }
    }
    panic!("every event was accepted");
}

/// Sends an event until it is accepted.
async fn accepted_at_last(fixture: &Fixture, event: &Event) {
    eventually("the event is accepted", async || {
        matches!(fixture.sender.send(event).await, Answer::Accepted(_) | Answer::Duplicate(_))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_answers_503_and_a_backend_that_starts_meanwhile_handles_stored_events() {
    let mut fixture = Fixture::start().await;
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    let waiting = fixture.event("waiting", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.send_accepted(&waiting).await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let set = |bytes: &str| {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut connection).unwrap();
    };
    set("1mb");
    let rejected = fixture.event("rejected", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z");
    assert_eq!(fixture.sender.send(&rejected).await, Answer::Unavailable);
    fixture.stack.backend.kill().unwrap();
    fixture.stack.start_backend().unwrap();
    fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    fixture.delivered_once(1).await;
    set("0");
    accepted_at_last(&fixture, &rejected).await;
    fixture.delivered_once(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_answers_503_and_loses_no_acknowledged_event() {
    for (durability, settings) in [("fsync", FSYNC), ("memory", EVERY_SECOND)] {
        let mut server = redis(&settings);
        server.replace(RedisOptions { file_limit: Some(32 << 10), ..RedisOptions::with(&settings) }).unwrap();
        let redis_url = Some(server.url());
        let fixture = Fixture::start_with(|options| {
            let options = Options { redis_url, ..options };
            options.backend("redis.durability", durability).backend("ingest.store_timeout_ms", 500)
        })
        .await;
        let (accepted, rejected) = until_one_is_rejected(&fixture, durability).await;
        assert!(accepted.len() > 10, "{durability}: {}", accepted.len());
        // An operator frees space.
        server.replace(RedisOptions::with(&settings)).unwrap();
        accepted_at_last(&fixture, &rejected).await;
        if durability == "fsync" {
            fixture.delivered(accepted.len() + 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_becomes_a_replica_answers_503_until_it_is_a_primary_again() {
    let fixture = Fixture::start().await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let replica_of = |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut client.get_connection().unwrap()).unwrap();
    };
    let event = fixture.event("read-only", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z");
    replica_of("127.0.0.1", "1");
    assert_eq!(fixture.sender.send(&event).await, Answer::Unavailable);
    replica_of("NO", "ONE");
    accepted_at_last(&fixture, &event).await;
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_loading_its_data_answers_503_until_it_has_finished() {
    let mut server = redis(&FSYNC);
    let redis_url = Some(server.url());
    let fixture =
        Fixture::start_with(|options| Options { redis_url, ..options }.backend("ingest.store_timeout_ms", 300)).await;
    for event in fixture.events("before", 300) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered_once(300).await;
    let slow_to_load = RedisOptions::with(&[&FSYNC[..], &["--key-load-delay", "2000"]].concat());
    server.replace(RedisOptions { readiness: Readiness::Listens, ..slow_to_load }).unwrap();
    let is_loading = || {
        let mut answer = [0; 8];
        let mut socket = TcpStream::connect(server.address())?;
        // While Redis loads its data, it answers only after every 1024 commands.
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"GET x\r\n")?;
        socket.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(&answer == b"-LOADING")
    };
    let event = fixture.event("while-loading", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z");
    let sending = tokio::spawn({
        let sender = fixture.sender.clone();
        let event = event.clone();
        async move { sender.send(&event).await }
    });
    eventually("Redis answers that it is loading", async || is_loading().unwrap_or(false)).await;
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert!(metrics.sum("truenroll_backend_ingest_total", &["answer=\"unavailable\""]) > 0);
    let answer = sending.await.unwrap();
    assert!(matches!(answer, Answer::Unavailable | Answer::Accepted(_) | Answer::Duplicate(_)), "{answer:?}");
    accepted_at_last(&fixture, &event).await;
    fixture.delivered(301).await;
}

#[tokio::test]
async fn with_appendfsync_everysec_backfilling_an_event_that_has_arrived_is_not_an_error() {
    let server = redis(&EVERY_SECOND);
    let config = config(&server.url());
    let inbox = Inbox::connect(&config).await.unwrap();
    let body = |at: &str| {
        let payload = serde_json::json!({ "caseId": "backfilled", "externalId": null, "occurredAt": at });
        serde_json::json!({ "eventName": "case.forensics.completed", "payload": payload }).to_string()
    };
    let accept = async |at: &str, origin: Origin| {
        let body = body(at);
        let event = Envelope::parse(body.as_bytes()).unwrap();
        let key = event.key();
        inbox.accept(&Arrival { origin, ..Arrival::now(&event, &key, body.as_bytes()) }).await.unwrap()
    };
    assert_eq!(accept("2025-06-22T10:30:00Z", Origin::Sent).await, Accepted::Stored);
    assert_eq!(accept("2025-06-22T10:31:00Z", Origin::Backfilled { required: 1 }).await, Accepted::AlreadyBackfilled);
}
