//! Errors at startup say what is wrong.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    time::Duration,
};

use harness::{
    backend_settings::BackendSettings,
    keys,
    process::{Process, free_port},
    redis_server::{FSYNC, Readiness, RedisOptions, RedisServer},
    tools,
};

use crate::fixture::{PATIENCE, redis};

/// Runs a backend that is expected to fail at startup. Returns its exit code and its log.
pub(crate) fn backend(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    backend_with_variables(settings, &[])
}

/// The same, with further environment variables.
pub(crate) fn backend_with_variables(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut usual = BackendSettings::usual(free_port().unwrap(), free_port().unwrap());
    for (name, value) in settings {
        usual.set(name, value);
    }
    let mut command = Command::new(tools::workspace_binary("backend", "backend", &[]).unwrap());
    command.arg("serve").envs(usual.environment()).envs(variables.iter().copied());
    let mut process = Process::start("backend", &mut command, log.path()).unwrap();
    // The backend never becomes ready: wait until it has ended.
    let ended = process.wait_until(PATIENCE, || false).unwrap_err().to_string();
    assert!(ended.contains("ended with"), "{ended}");
    let status = process.stop(Duration::from_secs(1)).unwrap();
    (status.and_then(|status| status.code()), fs::read_to_string(log.path()).unwrap())
}

#[test]
fn an_invalid_setting_is_reported_with_its_source() {
    let (code, said) = backend(&[("redis.partitions", "0")]);
    assert_eq!(code, Some(78));
    assert!(said.contains("`redis.partitions`") && said.contains("BACKEND__REDIS__PARTITIONS"), "{said}");
}

#[test]
fn an_unreachable_redis_is_reported_with_its_address() {
    let url = format!("redis://127.0.0.1:{}", free_port().unwrap());
    let (code, said) = backend(&[("redis.url", &url), ("redis.start_timeout_ms", "1000")]);
    assert_eq!(code, Some(1));
    assert_eq!(said.matches("waiting for Redis for up to 1s").count(), 1, "{said}");
    assert!(said.contains("`redis.url`") && said.contains(&url["redis://".len()..]), "{said}");
}

#[test]
fn a_backend_waits_at_start_for_a_redis_that_is_unreachable_or_loading() {
    let mut server = redis(&FSYNC);
    let fill = "for key = 1, 10000 do redis.call('SET', 'filler:' .. key, key) end";
    server.ask::<()>(&["EVAL", fill, "0"]).unwrap();
    let slow_to_load = RedisOptions::with(&[&FSYNC[..], &["--key-load-delay", "300"]].concat());
    let ingest = free_port().unwrap();
    let settings = BackendSettings::usual(ingest, free_port().unwrap()).with("redis.url", server.url());
    let is_listening = || TcpStream::connect(("127.0.0.1", ingest)).is_ok();
    for expected in ["refused", "loading"] {
        server.process.kill().unwrap();
        if expected == "loading" {
            server.replace(RedisOptions { readiness: Readiness::Listens, ..slow_to_load.clone() }).unwrap();
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let said = || fs::read_to_string(log.path()).unwrap();
        let mut command = Command::new(tools::workspace_binary("backend", "backend", &[]).unwrap());
        command.arg("serve").envs(settings.environment());
        let mut backend = Process::start("backend", &mut command, log.path()).unwrap();
        backend.wait_until(PATIENCE, || said().contains("waiting for Redis for up to 60s")).unwrap();
        assert!(said().contains(expected), "{}", said());
        assert!(!is_listening(), "Envoy would send it events");
        backend.signal("HUP").unwrap();
        backend.signal("HUP").unwrap();
        if expected == "refused" {
            server.start_again().unwrap();
        }
        backend.wait_until(PATIENCE, is_listening).unwrap();
        assert_eq!(said().matches("waiting for Redis").count(), 1, "{}", said());
        // SIGHUP asks for this, and does not end a backend that does not serve yet.
        backend.wait_until(PATIENCE, || said().contains("the configuration was read again")).unwrap();
        backend.stop(PATIENCE).unwrap();
    }
}

#[test]
fn a_redis_that_would_lose_events_is_rejected() {
    for (settings, said) in [
        (["--appendonly", "no", "--appendfsync", "always"], "appendonly yes"),
        (["--appendonly", "yes", "--appendfsync", "no"], "appendfsync always"),
        (["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"], "maxmemory-policy noeviction"),
    ] {
        let server = redis(&settings);
        let (code, log) = backend(&[("redis.url", &server.url())]);
        assert_eq!(code, Some(1));
        assert!(log.contains(said), "{log}");
    }
}

#[test]
fn a_replica_and_a_primary_with_too_few_replicas_are_rejected() {
    let primary = redis(&FSYNC);
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = redis(&[&FSYNC[..], &["--replicaof", &of]].concat());
    let short = ("redis.start_timeout_ms", "1000");
    let (code, log) = backend(&[("redis.url", &replica.url()), short]);
    assert!(code == Some(1) && log.contains("`redis.url` must name the primary"), "{log}");
    let url = primary.url();
    let (code, log) = backend(&[("redis.url", &url), ("redis.durability", "replicas:2"), short]);
    assert!(code == Some(1) && log.contains("`redis.durability` asks for 2 replicas"), "{log}");
}

#[test]
fn a_backend_waits_at_start_for_replicas_and_for_a_failover() {
    let primary = redis(&FSYNC);
    let replica = redis(&FSYNC);
    let port = primary.port().to_string();
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let ingest = free_port().unwrap();
    let usual = BackendSettings::usual(ingest, free_port().unwrap());
    let is_listening = || TcpStream::connect(("127.0.0.1", ingest)).is_ok();
    for (url, durability, expected, repair) in [
        (replica.url(), "fsync", "is a replica", ["REPLICAOF", "NO", "ONE"]),
        (primary.url(), "replicas:1", "has 0 connected replicas", ["REPLICAOF", "127.0.0.1", &port]),
    ] {
        let settings = usual.clone().with("redis.url", url).with("redis.durability", durability);
        let log = tempfile::NamedTempFile::new().unwrap();
        let said = || fs::read_to_string(log.path()).unwrap();
        let mut command = Command::new(tools::workspace_binary("backend", "backend", &[]).unwrap());
        command.arg("serve").envs(settings.environment());
        let mut backend = Process::start("backend", &mut command, log.path()).unwrap();
        backend.wait_until(PATIENCE, || said().contains("waiting for Redis for up to 60s")).unwrap();
        assert!(said().contains(expected) && !is_listening(), "{}", said());
        replica.ask::<()>(&repair).unwrap();
        backend.wait_until(PATIENCE, is_listening).unwrap();
        backend.stop(PATIENCE).unwrap();
    }
}

#[test]
fn a_topology_that_does_not_match_the_servers_is_rejected() {
    let single = redis(&FSYNC);
    let clustered = redis(&[&FSYNC[..], &["--cluster-enabled", "yes", "--cluster-port", "0"]].concat());
    let url = RedisServer::url;
    for (url, topology, primary, expected) in [
        (url(&single), "cluster", "", "does not belong to a cluster"),
        (url(&single), "sentinel", "edge", "SENTINEL"),
        (url(&single), "sentinel", "", "`redis.sentinel_primary`"),
        (url(&clustered), "cluster", "", "no server of the cluster holds slot"),
        (url(&single) + " " + &url(&single), "single", "", "`redis.topology` is \"single\""),
    ] {
        let topology = ("redis.topology", topology);
        let (_, said) = backend(&[("redis.url", &url), topology, ("redis.sentinel_primary", primary)]);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16_383)
        .exec(&mut redis::Client::open(url(&clustered)).unwrap().get_connection().unwrap())
        .unwrap();
    let (_, said) = backend(&[("redis.url", &url(&clustered))]);
    assert!(said.contains("set `redis.topology` to \"cluster\""), "{said}");
}

#[test]
fn a_number_of_partitions_that_differs_from_the_stored_one_is_rejected() {
    let server = redis(&FSYNC);
    let url = server.url();
    let client = redis::Client::open(url.as_str()).unwrap();
    redis::cmd("SET").arg(keys::keys().partition_count()).arg(4).exec(&mut client.get_connection().unwrap()).unwrap();
    let (code, said) = backend(&[("redis.url", &url)]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`redis.partitions` is 16") && said.contains("set it to 4"), "{said}");
}

#[test]
fn a_port_in_use_is_reported_with_its_setting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, said) = backend(&[("ingest.listen", &address)]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("`ingest.listen`"), "{said}");
}

#[test]
fn guardctl_errors_name_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let guardctl = |arguments: &[&str]| -> Output {
        let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
        command.current_dir(folder.path()).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    };
    for (arguments, expected) in [
        (&["publish", "--wasm", "missing.wasm", "--proof-file", "proof", "--dir", "edge"][..], "missing.wasm"),
        (&["rollback", "--dir", "edge"], "no earlier build"),
        (&["bootstrap", "--set", "edge_prot=1"], "`edge_prot`"),
    ] {
        let output = guardctl(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn guardctl_verify_exits_with_2_if_an_argument_is_invalid() {
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    let url = format!("http://127.0.0.1:{}/webhook", free_port().unwrap());
    for (arguments, code, expected) in [
        (&["ftp://host/webhook"][..], 2, "the URL"),
        (&[&url, "--other-path", "health"], 2, "--other-path"),
        (&[&url, "--timeout", "0"], 2, "--timeout"),
        (&[&url, "--secret", "hunter2"], 2, "--secret"),
        (&[&url], 1, "checks failed"),
    ] {
        let mut command = Command::new(&guardctl);
        command.arg("verify").args(arguments).env_remove("WEBHOOK_TOKEN").env_remove("WEBHOOK_SECRET");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{arguments:?}: {said}");
    }
}
