//! Outcomes in a stream of the application's in Redis.

use std::{collections::HashMap, time::Duration};

use axum::http::HeaderMap;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::BackendSettings,
    outcomes::Contract,
    proxy::{Fault, Proxy},
    redis_server::{EVERY_SECOND, FSYNC, IN_MEMORY, RedisServer},
    simulator::world::Event,
    stack::Options,
    tools,
};
use redis::streams::StreamRangeReply;
use serde_json::Value;

use crate::{
    doctor::diagnose,
    fixture::{Fixture, eventually, peak, redis},
    outcomes::headers_of,
    tls::{Authority, tls_in_front_of},
};

const STREAM: &str = "truenroll-outcomes";

/// The settings of a backend that adds outcomes to the stream of this server.
pub(crate) fn to_stream(options: Options, url: &str) -> Options {
    options.backend("sink.kind", "redis").backend("sink.redis_url", url)
}

async fn start(url: &str) -> Fixture {
    Fixture::start_with(|options| to_stream(options, url)).await
}

/// The entries of the stream, oldest first, each with its identifier.
pub(crate) fn entries(server: &RedisServer) -> Vec<(String, HashMap<String, String>)> {
    let reply: StreamRangeReply = server.ask(&["XRANGE", STREAM, "-", "+"]).unwrap();
    let text = |value: redis::Value| redis::from_redis_value(value).unwrap();
    let fields = |fields: HashMap<_, _>| fields.into_iter().map(|(name, value)| (name, text(value))).collect();
    reply.ids.into_iter().map(|entry| (entry.id, fields(entry.map))).collect()
}

/// The event keys of the entries, oldest first.
fn keys(server: &RedisServer) -> Vec<String> {
    entries(server).into_iter().map(|(_, mut entry)| entry.remove("idempotency_key").unwrap()).collect()
}

async fn added(server: &RedisServer, number: usize) {
    eventually("the outcomes are in the stream", async || entries(server).len() >= number).await;
}

/// How many attempts have failed with this code.
async fn retries(fixture: &Fixture, code: &str) -> u64 {
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    metrics.sum("truenroll_backend_retries_total", &[&format!("code=\"{code}\"")])
}

/// The events of one lane, in the order in which they are sent.
fn lane(fixture: &Fixture, case: &str, feature: Feature, count: usize) -> Vec<Event> {
    let times = (0..count).map(|second| format!("2025-06-22T10:30:{second:02}Z"));
    times.map(|at| fixture.event(case, feature, Stage::Completed, &at)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_is_added_once_as_described_and_in_the_order_of_its_lane() {
    for settings in [FSYNC, EVERY_SECOND] {
        let server = redis(&settings);
        let fixture = start(&server.url()).await;
        let lanes: Vec<_> =
            (0..8).map(|number| lane(&fixture, &format!("lane-{number}"), Feature::ALL[number % 4], 5)).collect();
        for round in 0..5 {
            for lane in &lanes {
                fixture.send_accepted(&lane[round]).await;
            }
        }
        let failed = fixture.event("failed", Feature::Translation, Stage::Failed, "2025-06-22T10:30:00Z");
        fixture.send_accepted(&failed).await;
        fixture.nothing_left_over().await;

        let entries = entries(&server);
        assert_eq!(entries.len(), 41, "each outcome once");
        let contract = Contract::start().unwrap();
        for (_, entry) in &entries {
            let body: Value = serde_json::from_str(&entry["body"]).unwrap();
            let mut headers: HeaderMap = headers_of(&body);
            headers.insert("idempotency-key", entry["idempotency_key"].parse().unwrap());
            headers.insert("webhook-id", entry["webhook_id"].parse().unwrap());
            contract.check(&headers, &body).unwrap();
            assert_eq!(body["eventKey"], entry["idempotency_key"].as_str());
            assert_eq!(body["eventName"], entry["event"].as_str());
            assert_eq!(entry.len(), 4, "{:?}", entry.keys());
        }
        let keys = keys(&server);
        for lane in lanes {
            let sent: Vec<_> = lane.into_iter().map(|event| event.key).collect();
            let added: Vec<_> = keys.iter().filter(|key| sent.contains(key)).cloned().collect();
            assert_eq!(added, sent);
        }
        assert_eq!(fixture.simulator.application.counts(), (0, 0), "nothing is posted");
        assert_eq!(retries(&fixture, "sink_not_durable").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_after_it_has_added_an_outcome_adds_it_again_with_the_same_key() {
    let server = redis(&FSYNC);
    let proxy = Proxy::start(server.address()).unwrap();
    let mut fixture = start(&format!("redis://{}", proxy.address())).await;
    let events = lane(&fixture, "killed", Feature::Extraction, 3);
    fixture.send_accepted(&events[0]).await;
    added(&server, 1).await;
    fixture.nothing_left_over().await;
    proxy.fail(Fault::AnswersCut);
    fixture.send_accepted(&events[1]).await;
    fixture.send_accepted(&events[2]).await;
    added(&server, 2).await;
    fixture.stack.backend.kill().unwrap();
    proxy.heal();
    fixture.stack.start_backend().unwrap();
    added(&server, 4).await;
    fixture.nothing_left_over().await;
    let sent: Vec<_> = [0, 1, 1, 2].map(|number: usize| events[number].key.clone()).into();
    assert_eq!(keys(&server), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_sinks_redis_is_down_or_hangs_events_are_stored_and_later_delivered() {
    let mut server = redis(&FSYNC);
    let proxy = Proxy::start(server.address()).unwrap();
    let url = format!("redis://{}", proxy.address());
    let fixture = Fixture::start_with(|options| to_stream(options, &url).backend("sink.timeout_ms", 2_000)).await;
    fixture
        .send_accepted(&fixture.event("before", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z"))
        .await;
    added(&server, 1).await;

    server.process.kill().unwrap();
    for event in fixture.events("down", 4) {
        fixture.send_accepted(&event).await;
    }
    eventually("attempts fail", async || retries(&fixture, "sink_unreachable").await >= 4).await;
    server.start_again().unwrap();
    added(&server, 5).await;

    proxy.fail(Fault::Stalled);
    let begun = tokio::time::Instant::now();
    for event in fixture.events("stalled", 40) {
        fixture.send_accepted(&event).await;
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "the inbox waits for the sink: {took:?}");
    eventually("attempts fail", async || retries(&fixture, "sink_timeout").await > 0).await;
    proxy.heal();
    fixture.nothing_left_over().await;
    let mut keys = keys(&server);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 45);
    assert_eq!(fixture.dead_letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_waits_for_the_application_and_loses_nothing() {
    let server = redis(&FSYNC);
    let url = server.url();
    let fixture = Fixture::start_with(|options| to_stream(options, &url).backend("sink.max_length", 3)).await;
    for event in lane(&fixture, "full", Feature::Extraction, 3) {
        fixture.send_accepted(&event).await;
    }
    added(&server, 3).await;
    let before = entries(&server);
    let more = fixture.events("more", 8);
    for event in &more {
        fixture.send_accepted(event).await;
    }
    eventually("attempts fail", async || retries(&fixture, "sink_full").await >= 16).await;
    assert_eq!(entries(&server), before, "nothing is added or removed");
    // The application deletes one entry after the other, as it handles them.
    let mut handled = Vec::new();
    eventually("everything is handled", async || {
        for (id, entry) in entries(&server) {
            assert_eq!(server.ask::<u64>(&["XDEL", STREAM, &id]).unwrap(), 1);
            handled.push(entry["idempotency_key"].clone());
        }
        handled.len() >= 11
    })
    .await;
    fixture.nothing_left_over().await;
    handled.sort_unstable();
    handled.dedup();
    assert_eq!((handled.len(), entries(&server).len()), (11, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_sinks_redis_has_a_code_and_is_repaired_without_a_restart() {
    let server = redis(&FSYNC);
    let url = server.url();
    let fixture = Fixture::start_with(|options| to_stream(options, &url).backend("sink.timeout_ms", 2_000)).await;
    let lists = |command: &str| -> Vec<Vec<String>> {
        command.split("; ").map(|command| command.split(' ').map(str::to_owned).collect()).collect()
    };
    let run = |commands: &str| {
        for command in lists(commands) {
            let words: Vec<_> = command.iter().map(String::as_str).collect();
            server.ask::<redis::Value>(&words).unwrap();
        }
    };
    for (number, (broken, code, repaired)) in [
        ("DEL truenroll-outcomes; SET truenroll-outcomes 1", "sink_wrong_type", "DEL truenroll-outcomes"),
        ("ACL SETUSER default -xadd", "sink_unauthorized", "ACL SETUSER default +xadd"),
        ("CONFIG SET maxmemory 1", "sink_out_of_memory", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "sink_read_only", "REPLICAOF NO ONE"),
        ("CONFIG SET appendonly no", "sink_not_durable", "CONFIG SET appendonly yes"),
        // Redis writes to its file, and waits for the disk only when the kernel does.
        ("CONFIG SET appendfsync no", "sink_not_durable", "CONFIG SET appendfsync always"),
        (
            "CONFIG SET maxmemory-policy allkeys-lru; CLIENT KILL TYPE normal",
            "sink_not_durable",
            "CONFIG SET maxmemory-policy noeviction",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let failed = retries(&fixture, code).await;
        run(broken);
        let event =
            fixture.event(&format!("fault-{number}"), Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
        fixture.send_accepted(&event).await;
        eventually(&format!("attempts fail: {broken}"), async || retries(&fixture, code).await >= failed + 3).await;
        run(repaired);
        eventually(&format!("it is delivered: {repaired}"), async || keys(&server).contains(&event.key)).await;
        fixture.nothing_left_over().await;
        let copies = keys(&server).iter().filter(|key| **key == event.key).count();
        // Only the attempt that noticed it may have added the outcome.
        assert!(copies <= 2, "{broken}: {copies}");
    }
    assert_eq!(fixture.dead_letters().await, []);
}

/// The user that `docs/OUTCOMES.md` describes.
fn documented_user() -> Vec<String> {
    let page = std::fs::read_to_string(tools::workspace().join("docs/OUTCOMES.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER truenroll ")).unwrap();
    line.replace("PASSWORD", "hunter2").split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_is_enough_over_tls_and_doctor_says_what_is_wrong() {
    let server = redis(&FSYNC);
    let user = documented_user();
    () = server.ask(&user.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let port = tls_in_front_of(server.port(), authority.sign("localhost")).await;
    let url_file = folder.path().join("url");
    std::fs::write(&url_file, format!("rediss://truenroll:hunter2@localhost:{port}\n")).unwrap();
    let fixture = Fixture::start_with(|options| {
        let mut options = to_stream(options, "").backend("sink.redis_url_file", url_file.display());
        options.backend.set_variable("SSL_CERT_FILE", trusted.display());
        options
    })
    .await;
    for event in fixture.events("acl", 4) {
        fixture.send_accepted(&event).await;
    }
    added(&server, 4).await;
    fixture.nothing_left_over().await;
    assert_eq!(retries(&fixture, "sink_unauthorized").await, 0);

    let none = BackendSettings::default();
    let with = |name: &str, value: &str| BackendSettings::default().with(name, value);
    let diagnosis = diagnose(&fixture, &[], &none);
    diagnosis.says("sink", "pass", "has 4 of at most 100000 entries");
    diagnosis.says("sink-signature", "pass", "is trusted");
    assert_eq!(keys(&server).len(), 4, "no test is added unless it is asked for");
    let plain = server.url();
    let wrong_password = plain.replace("//", "//truenroll:another@");
    let direct = with("sink.redis_url_file", "").with("sink.redis_url", &plain);
    for (own, said) in [
        (with("sink.max_length", "4"), "check that the application reads"),
        (with("sink.stream", "other"), "what the user may do"),
        (with("sink.durability", "replicas:1"), "0 of 1 replicas"),
        (with("sink.redis_url_file", "").with("sink.redis_url", "redis://127.0.0.1:1"), "refused"),
        (with("sink.redis_url_file", "").with("sink.redis_url", &wrong_password), "user and password"),
        (direct.clone().with("sink.stream", "text"), "set `sink.stream` to another name"),
    ] {
        () = server.ask(&["SET", "text", "1"]).unwrap();
        let diagnosis = diagnose(&fixture, &[], &own);
        diagnosis.says("sink", "failure", said);
        assert!(!diagnosis.printed.contains("hunter2"), "{}", diagnosis.printed);
    }
    diagnose(&fixture, &[], &direct).says("sink-signature", "warning", "without a password");
    diagnose(&fixture, &[], &with("sink.max_length", "5")).says("sink", "warning", "has 4 of at most 5");
    for (setting, value, back, said) in [
        ("maxmemory-policy", "allkeys-lru", "noeviction", "set `maxmemory-policy` to `noeviction`"),
        ("appendonly", "no", "yes", "`appendonly yes`"),
    ] {
        () = server.ask(&["CONFIG", "SET", setting, value]).unwrap();
        diagnose(&fixture, &[], &none).says("sink", "failure", said);
        () = server.ask(&["CONFIG", "SET", setting, back]).unwrap();
    }
    diagnose(&fixture, &["--probe-sink"], &none).says("sink-test", "pass", "a test was added");
    let (_, test) = entries(&server).pop().unwrap();
    let body: Value = serde_json::from_str(&test["body"]).unwrap();
    assert_eq!((test["event"].as_str(), &body["test"]), ("truenroll-edge.test", &Value::Bool(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outcomes_are_added_as_a_whole_and_only_a_few_are_held_in_memory() {
    const SIZE: usize = 8 << 20;
    const COUNT: u64 = 12;
    let server = redis(&FSYNC);
    let fixture = start(&server.url()).await;
    fixture.simulator.world.set_translation_size(SIZE);
    let before = peak(fixture.stack.backend.pid());
    for number in 0..COUNT {
        let case = format!("large-{number}");
        let event = fixture.event(&case, Feature::Translation, Stage::Completed, "2025-06-22T10:30:00Z");
        fixture.send_accepted(&event).await;
    }
    eventually("all are added", async || server.ask::<u64>(&["XLEN", STREAM]).unwrap_or_default() >= COUNT).await;
    fixture.nothing_left_over().await;
    let grown = peak(fixture.stack.backend.pid()) - before;
    println!("  {COUNT} outcomes of {} MiB: the backend's memory grew by {} MiB", SIZE >> 20, grown >> 20);
    // Four are held at once, each of which is copied several times on its way to the socket.
    assert!(grown < 40 * SIZE as u64, "{grown}");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let read: StreamRangeReply =
        redis::cmd("XRANGE").arg(STREAM).arg("-").arg("+").arg("COUNT").arg(1).query(&mut connection).unwrap();
    let body: String = read.ids[0].get("body").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    let page = body["outcome"]["result"]["translation"][0]["htmlRepresentation"].as_str().unwrap();
    assert!(page.len() > SIZE - 14, "{}", page.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_counts_as_delivered_when_the_replicas_have_it() {
    let server = redis(&IN_MEMORY);
    let primary = format!("127.0.0.1 {}", server.port());
    let mut replica = redis(&[&IN_MEMORY[..], &["--replicaof", &primary, "--repl-diskless-sync-delay", "0"]].concat());
    let url = server.url();
    let fixture = Fixture::start_with(|options| {
        to_stream(options, &url).backend("sink.durability", "replicas:1").backend("sink.timeout_ms", 2_000)
    })
    .await;
    for event in fixture.events("replicated", 4) {
        fixture.send_accepted(&event).await;
    }
    fixture.nothing_left_over().await;
    assert_eq!(keys(&replica), keys(&server));
    replica.process.kill().unwrap();
    let event = fixture.event("alone", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.send_accepted(&event).await;
    eventually("attempts fail", async || retries(&fixture, "sink_not_durable").await >= 3).await;
    replica.start_again().unwrap();
    fixture.nothing_left_over().await;
    let copies = keys(&server).iter().filter(|key| **key == event.key).count();
    // Only the attempt that noticed it may have added the outcome.
    assert!((1..=2).contains(&copies), "{copies}");
    assert_eq!(keys(&replica), keys(&server));
}
