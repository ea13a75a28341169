//! The format of what is stored: a backend refuses a store that requires a newer one, and leaves
//! alone what a newer backend has added.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use backend::test_support::inbox::{Inbox, keys::PartitionKeys};
use envelope::{
    CaseId, Feature, Stage,
    headers::{self, Judgement, Mark},
};
use harness::{
    backend_settings::{BackendSettings, PROOF},
    keys,
    redis_server::{FSYNC, RedisServer},
    simulator::{sender, world::Event},
    tools,
};
use redis::{Connection, streams::StreamRangeReply};
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::{
    fixture::{Fixture, PATIENCE, eventually, redis},
    start::backend,
};

const AT: &str = "2025-06-22T10:30:00Z";
/// The script with which a backend raises the format of a partition.
const RAISE_FORMAT: &str = include_str!("../../../backend/src/inbox/raise_format.lua");
/// The script with which a backend acquires the lease on a partition.
const ACQUIRE: &str = include_str!("../../../backend/src/inbox/acquire.lua");
/// How soon a newer format excludes a backend that owns partitions, with the default lease.
const EXCLUSION: Duration = Duration::from_secs(10);

fn connect(url: &str) -> Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

/// Does what a newer backend does at start: raises the format of every partition.
fn raise(connection: &mut Connection, format: u32, required: u32) {
    for keys in keys::of_all_partitions() {
        raise_partition(connection, &keys, format, required);
    }
}

/// Raises the format of one partition. Returns the format and the required format.
fn raise_partition(
    connection: &mut Connection,
    keys: &PartitionKeys,
    format: u32,
    required: u32,
) -> [Option<String>; 2] {
    let script = redis::Script::new(RAISE_FORMAT);
    let mut call = script.key(keys.format());
    call.key(keys.lease()).arg(format).arg(required).arg("9.8.7");
    let [format, required, _]: [Option<String>; 3] = call.invoke(connection).unwrap();
    [format, required]
}

/// Tries to acquire a partition's lease for a backend that knows format 1. Returns the answer of
/// the script.
fn acquire(connection: &mut Connection, keys: &PartitionKeys) -> u8 {
    let script = redis::Script::new(ACQUIRE);
    script.key(keys.lease()).key(keys.format()).arg("token").arg(60_000).arg(1).invoke(connection).unwrap()
}

/// Runs a command of the backend against a Redis server. Returns its exit code and its error.
fn command(server: &RedisServer, arguments: &[&str]) -> (Option<i32>, String) {
    let settings = BackendSettings::usual(0, 0).with("redis.url", server.url());
    let mut command = Command::new(tools::workspace_binary("backend", "backend", &[]).unwrap());
    let output = command.args(arguments).envs(settings.environment()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The fields of the only entry of a stream.
fn entry(connection: &mut Connection, stream: &str) -> Option<redis::streams::StreamId> {
    let entries: StreamRangeReply = redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(connection).unwrap();
    assert!(entries.ids.len() <= 1, "{stream}: {entries:?}");
    entries.ids.into_iter().next()
}

#[test]
fn a_newer_format_is_refused_at_start_and_by_every_command() {
    let server = redis(&FSYNC);
    raise(&mut connect(&server.url()), 3, 2);
    let refusal = "in format 3, written by version 9.8.7, which requires a backend that knows format 2";
    let (code, log) = backend(&[("redis.url", &server.url())]);
    assert!(code == Some(1) && log.contains(refusal), "{log}");
    assert!(log.contains(&server.address().to_string()) && log.contains("run version 9.8.7 or a newer one"), "{log}");

    for arguments in [
        &["dead"][..],
        &["replay"],
        &["quarantine"],
        &["readmit"],
        &["reconcile"],
        &["pause", "extraction"],
        &["resume", "extraction"],
    ] {
        let (code, said) = command(&server, arguments);
        assert!(code == Some(1) && said.contains(refusal), "{arguments:?}: {said}");
    }
    let stored: u64 = server.ask(&["DBSIZE"]).unwrap();
    assert_eq!(stored, u64::from(keys::PARTITIONS), "nothing was written");
}

#[test]
fn a_command_leaves_the_formats_as_they_are() {
    let server = redis(&FSYNC);
    for arguments in [&["dead"][..], &["replay"], &["quarantine"], &["readmit"], &["pause", "extraction"]] {
        assert_eq!(command(&server, arguments).0, Some(0), "{arguments:?}");
    }
    for keys in keys::of_all_partitions() {
        assert_eq!(server.ask::<u8>(&["EXISTS", &keys.format()]).unwrap(), 0, "{}", keys.format());
    }
}

#[test]
fn the_format_and_the_required_one_are_raised_independently_and_never_lowered() {
    let server = redis(&FSYNC);
    let mut connection = connect(&server.url());
    let keys = keys::of_partition(3);
    for (format, required, expected, keeps_lease) in [
        (3, 1, ["3", "1"], false),
        (3, 2, ["3", "2"], false),
        (4, 0, ["4", "2"], true),
        (2, 3, ["4", "3"], false),
        (1, 0, ["4", "3"], true),
    ] {
        server.ask::<()>(&["SET", &keys.lease(), "token"]).unwrap();
        let raised = raise_partition(&mut connection, &keys, format, required);
        assert_eq!(raised, expected.map(|number| Some(number.to_owned())), "{format} {required}");
        let has_lease: bool = server.ask(&["EXISTS", &keys.lease()]).unwrap();
        assert_eq!(has_lease, keeps_lease, "{format} {required}");
    }
}

#[test]
fn a_damaged_number_is_greater_than_any_format() {
    let server = redis(&FSYNC);
    let mut connection = connect(&server.url());
    let keys = keys::of_partition(3);
    for damaged in ["new", "", "nan", "-1", "0x1", "1e0", " 1", "99999999999"] {
        server.ask::<()>(&["HSET", &keys.format(), "format", damaged, "required", damaged]).unwrap();
        assert_eq!(acquire(&mut connection, &keys), 2, "{damaged:?}");
        let raised = raise_partition(&mut connection, &keys, 3, 2);
        assert_eq!(raised, [Some(damaged.to_owned()), Some(damaged.to_owned())]);
    }
    server.ask::<()>(&["HSET", &keys.format(), "format", "2", "required", "1"]).unwrap();
    assert_eq!(acquire(&mut connection, &keys), 1);
}

#[test]
fn a_damaged_format_is_reported_with_its_key_and_what_to_do() {
    let server = redis(&FSYNC);
    let key = keys::of_partition(3).format();
    for damage in [&["HSET", &key, "required", "new"][..], &["HSET", &key, "format", ""], &["SET", &key, "1"]] {
        server.ask::<()>(&["DEL", &key]).unwrap();
        server.ask::<redis::Value>(damage).unwrap();
        for (code, said) in [backend(&[("redis.url", &server.url())]), command(&server, &["dead"])] {
            assert!(code == Some(1) && said.contains(&key) && said.contains("HGETALL"), "{damage:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_newer_format_that_does_not_exclude_this_backend_is_used_and_kept() {
    let server = redis(&FSYNC);
    let settings = BackendSettings::usual(0, 0).with("redis.url", server.url()).config().unwrap();
    let connect_inbox = async || Inbox::connect(&settings).await.map(drop);
    let format = || {
        let key = keys::of_partition(7).format();
        server.ask::<Vec<String>>(&["HMGET", &key, "format", "required"]).unwrap()
    };
    connect_inbox().await.unwrap();
    assert_eq!(format(), ["1", "0"]);
    raise(&mut connect(&server.url()), 2, 1);
    connect_inbox().await.unwrap();
    assert_eq!(format(), ["2", "1"], "a format is never lowered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backend_stores_and_handles_nothing_once_the_store_requires_a_newer_format() {
    let fixture = Fixture::start_with(|options| options.backend("worker.lease_ms", 10_000)).await;
    let client = sender::client();
    let send = async |event: &Event| {
        let judged = Judgement::write(PROOF, "test", Mark::Accepted);
        let request = client.post(fixture.stack.ingest()).header(headers::JUDGED, judged);
        request.body(event.body.clone()).send().await.unwrap().status()
    };
    let readiness = async || {
        let answer = client.get(format!("{}/readyz", fixture.stack.admin())).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let redis = fixture.stack.redis.as_ref().unwrap();
    let members = || redis.ask::<u32>(&["ZCARD", &keys::keys().members()]).unwrap();
    let events = fixture.events("upgraded", 2);
    assert_eq!(send(&events[0]).await, 202);
    fixture.delivered_once(1).await;
    assert_eq!(members(), 1);

    let mut connection = connect(&fixture.stack.redis_url());
    let raised_at = Instant::now();
    raise(&mut connection, 3, 2);
    eventually("the backend is not ready", async || readiness().await.0 == 503).await;
    let (_, reason) = readiness().await;
    assert!(reason.contains("run version 9.8.7 or a newer one"), "{reason}");
    assert_eq!(send(&events[1]).await, 503);
    eventually("the backend does not count as working, so that others take over its share", async || members() == 0)
        .await;
    assert!(raised_at.elapsed() < EXCLUSION, "{:?}", raised_at.elapsed());
    let line = "other backends take over its share";
    eventually("the backend says so", async || fixture.stack.backend.log().contains(line)).await;
    // The backend balances its share every 2.5 seconds at the latest.
    let watched_until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < watched_until {
        assert_eq!(members(), 0, "an excluded backend does not register again");
        for keys in keys::of_all_partitions() {
            assert_eq!(redis.ask::<u8>(&["EXISTS", &keys.lease()]).unwrap(), 0, "{}", keys.lease());
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fixture.stack.backend.log().matches(line).count(), 1);

    // A backup from before the upgrade is restored.
    for keys in keys::of_all_partitions() {
        redis::cmd("DEL").arg(keys.format()).exec(&mut connection).unwrap();
    }
    eventually("the backend is ready again", async || readiness().await.0 == 200).await;
    assert_eq!(send(&events[1]).await, 202);
    fixture.delivered_once(2).await;
    assert_eq!(members(), 1);
    fixture.nothing_left_over().await;
}

#[tokio::test]
async fn each_server_of_a_cluster_has_the_formats_of_its_partitions() {
    let servers = [(); 2].map(|()| redis(&[&FSYNC[..], &["--cluster-enabled", "yes"]].concat()));
    let ask = |server: &RedisServer, command: &[&str]| server.ask::<()>(command);
    for (server, (first, last)) in servers.iter().zip([("0", "8191"), ("8192", "16383")]) {
        ask(server, &["CLUSTER", "ADDSLOTSRANGE", first, last]).unwrap();
    }
    ask(&servers[0], &["CLUSTER", "MEET", "127.0.0.1", &servers[1].port().to_string()]).unwrap();
    eventually("the servers form a cluster", async || {
        let is_up =
            |server: &RedisServer| server.ask::<String>(&["CLUSTER", "INFO"]).unwrap().contains("cluster_state:ok");
        servers.iter().all(is_up)
    })
    .await;
    let settings = BackendSettings::usual(0, 0).with("redis.url", servers[0].url()).with("redis.topology", "cluster");
    let config = settings.config().unwrap();
    Inbox::connect(&config).await.unwrap();
    let formats = |server: &RedisServer| {
        let keys = keys::of_all_partitions();
        keys.filter(|keys| server.ask::<u32>(&["HGET", &keys.format(), "format"]) == Ok(1)).collect::<Vec<_>>()
    };
    let held = [formats(&servers[0]), formats(&servers[1])];
    assert_eq!(held[0].len() + held[1].len(), keys::PARTITIONS as usize);

    // The keys that belong to no partition are on one server, this partition on the other.
    let common = servers.iter().position(|server| server.ask::<u32>(&["GET", &keys::keys().partition_count()]).is_ok());
    let other = 1 - common.unwrap();
    ask(&servers[other], &["HSET", &held[other][0].format(), "format", "3", "required", "2", "version", "9.8.7"])
        .unwrap();
    let error = Inbox::connect(&config).await.map(drop).unwrap_err().to_string();
    assert!(error.contains(&servers[other].address().to_string()) && error.contains("run version 9.8.7"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_newer_backend_added_survive_everything_that_this_one_does() {
    let mut fixture = Fixture::start().await;
    let mut connection = connect(&fixture.stack.redis_url());
    let event = fixture.event("newer", Feature::Extraction, Stage::Completed, AT);
    let keys = keys::of_case(&CaseId::new("newer").unwrap());
    let inbox = keys.inbox(Feature::Extraction);

    // The newer backend's field, in an entry that this backend has not read yet.
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    fixture.send_accepted(&event).await;
    fixture.stack.backend.stop(PATIENCE).unwrap();
    let stored = entry(&mut connection, &inbox).unwrap();
    redis::cmd("XDEL").arg(&inbox).arg(&stored.id).exec(&mut connection).unwrap();
    let mut add = redis::cmd("XADD");
    add.arg(&inbox).arg("*").arg("newer").arg("1");
    for (name, value) in &stored.map {
        add.arg(name).arg(redis::from_redis_value_ref::<Vec<u8>>(value).unwrap());
    }
    add.exec(&mut connection).unwrap();
    fixture.stack.start_backend().unwrap();

    let command = |arguments: &[&str]| fixture.stack.backend_command(arguments).unwrap();
    let in_inbox = |connection: &mut Connection| {
        let entry = entry(connection, &inbox).unwrap();
        assert_eq!(entry.get::<String>("newer").as_deref(), Some("1"), "{entry:?}");
        assert_eq!(entry.map.len(), 5, "{entry:?}");
    };

    let mut become_dead_letter = async || {
        fixture.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
        command(&["resume", "extraction"]);
        let dead = keys.dead();
        eventually("the event is a dead letter", async || entry(&mut connection, &dead).is_some()).await;
        command(&["pause", "extraction"]);
        let letter = entry(&mut connection, &dead).unwrap();
        assert_eq!(letter.get::<String>("newer").as_deref(), Some("1"), "{letter:?}");
        assert_eq!(letter.get::<String>("code").as_deref(), Some("sink_rejected"));
        assert_eq!(letter.map.len(), 10, "{letter:?}");
    };
    become_dead_letter().await;
    assert_eq!(command(&["replay"]), "replayed 1 dead letter\n");
    in_inbox(&mut connect(&fixture.stack.redis_url()));
    become_dead_letter().await;
    fixture.send_accepted(&event).await;
    in_inbox(&mut connect(&fixture.stack.redis_url()));
    command(&["resume", "extraction"]);
    fixture.delivered_once(1).await;

    let quarantined = fixture.event("newer", Feature::Forensics, Stage::Completed, AT);
    command(&["pause", "forensics"]);
    let mut add = redis::cmd("XADD");
    add.arg(keys.quarantine()).arg("*").arg("key").arg("unknown").arg("body").arg(&quarantined.body);
    add.arg("received").arg(1_750_588_200_000_u64).arg("newer").arg("1");
    add.exec(&mut connection).unwrap();
    assert_eq!(command(&["readmit"]), "readmitted 1 event\n");
    let readmitted = entry(&mut connection, &keys.inbox(Feature::Forensics)).unwrap();
    assert_eq!(readmitted.get::<String>("newer").as_deref(), Some("1"), "{readmitted:?}");
    assert_eq!(readmitted.get::<String>("key"), Some(quarantined.key));
    command(&["resume", "forensics"]);
    fixture.delivered_once(2).await;
    fixture.nothing_left_over().await;
}
