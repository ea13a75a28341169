//! Things that are started wrongly say what is wrong.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use harness::{
    process::{Process, free_port},
    tools,
};

use crate::fixture::PATIENCE;

/// A Redis with settings of its own.
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) process: Process,
    folder: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let (port, folder) = (free_port().unwrap(), tempfile::tempdir().unwrap());
        let process = Self::run(port, folder.path(), settings, u64::MAX);
        Self { port, process, folder }
    }

    /// Another server on the same port and data, whose files can get so many bytes long and no longer.
    pub(crate) fn restart(&mut self, settings: &[&str], longest_file: u64) {
        self.process.kill().unwrap();
        self.process = Self::run(self.port, self.folder.path(), settings, longest_file);
    }

    fn run(port: u16, folder: &Path, settings: &[&str], longest_file: u64) -> Process {
        let mut command = Command::new("sh");
        // By default a process that exceeds the limit is killed, while a full disk only makes writing fail.
        let limit = if longest_file == u64::MAX { "unlimited".to_owned() } else { (longest_file / 512).to_string() };
        command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\""));
        command.arg(tools::redis_server().unwrap());
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).args(settings);
        command.arg("--dir").arg(folder);
        let mut process = Process::start("redis-server", &mut command, &folder.join("log")).unwrap();
        process.wait_until(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).unwrap();
        process
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Runs the backend where it is expected to refuse.
pub(crate) fn backend(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (ingest, admin) = (free_port().unwrap(), free_port().unwrap());
    let mut command = Command::new(tools::workspace_binary("backend", "backend", &[]).unwrap());
    command
        .arg("serve")
        .env("BACKEND__INGEST__LISTEN", format!("127.0.0.1:{ingest}"))
        .env("BACKEND__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
        .env("BACKEND__INGEST__PROOF", "0123456789abcdef")
        .env("BACKEND__PARTNER_API__API_KEY", "key")
        .envs(settings.iter().copied());
    let mut process = Process::start("backend", &mut command, log.path()).unwrap();
    // It ends by itself: that it does not get ready is what is waited for.
    let ended = process.wait_until(PATIENCE, || false).unwrap_err().to_string();
    assert!(ended.contains("ended with"), "{ended}");
    let status = process.stop(Duration::from_secs(1)).unwrap();
    (status.and_then(|status| status.code()), fs::read_to_string(log.path()).unwrap())
}

#[test]
fn a_setting_that_cannot_be_used_is_named_with_its_place() {
    let (code, said) = backend(&[("BACKEND__REDIS__PARTITIONS", "0")]);
    assert_eq!(code, Some(78));
    assert!(said.contains("`redis.partitions`") && said.contains("BACKEND__REDIS__PARTITIONS"), "{said}");
}

#[test]
fn a_missing_redis_is_named() {
    let url = format!("redis://127.0.0.1:{}", free_port().unwrap());
    let (code, said) = backend(&[("BACKEND__REDIS__URL", &url)]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`redis.url`") && said.contains(&url["redis://".len()..]), "{said}");
}

#[test]
fn a_redis_that_would_lose_events_is_refused() {
    for (settings, said) in [
        (["--appendonly", "no", "--appendfsync", "always"], "appendonly yes"),
        (["--appendonly", "yes", "--appendfsync", "no"], "appendfsync always"),
        (["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"], "maxmemory-policy noeviction"),
    ] {
        let redis = Redis::start(&settings);
        let (code, log) = backend(&[("BACKEND__REDIS__URL", &format!("redis://127.0.0.1:{}", redis.port))]);
        assert_eq!(code, Some(1));
        assert!(log.contains(said), "{log}");
    }
}

#[test]
fn a_replica_and_too_few_replicas_are_refused() {
    let primary = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let of = format!("127.0.0.1 {}", primary.port);
    let replica = Redis::start(&["--appendonly", "yes", "--appendfsync", "always", "--replicaof", &of]);
    let (code, log) = backend(&[("BACKEND__REDIS__URL", &format!("redis://127.0.0.1:{}", replica.port))]);
    assert!(code == Some(1) && log.contains("`redis.url` must name the primary"), "{log}");
    let url = format!("redis://127.0.0.1:{}", primary.port);
    let (code, log) = backend(&[("BACKEND__REDIS__URL", &url), ("BACKEND__REDIS__DURABILITY", "replicas:2")]);
    assert!(code == Some(1) && log.contains("`redis.durability` asks for 2 replicas"), "{log}");
}

#[test]
fn a_topology_that_is_not_the_servers_is_refused() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let single = Redis::start(&durable);
    let clustered = Redis::start(&[&durable[..], &["--cluster-enabled", "yes", "--cluster-port", "0"]].concat());
    let url = |redis: &Redis| format!("redis://127.0.0.1:{}", redis.port);
    for (url, topology, primary, expected) in [
        (url(&single), "cluster", "", "is not one of a cluster"),
        (url(&single), "sentinel", "edge", "SENTINEL"),
        (url(&single), "sentinel", "", "`redis.sentinel_primary`"),
        (url(&clustered), "cluster", "", "no server of the cluster holds slot"),
        (url(&single) + " " + &url(&single), "single", "", "`redis.topology` is \"single\""),
    ] {
        let topology = ("BACKEND__REDIS__TOPOLOGY", topology);
        let (_, said) =
            backend(&[("BACKEND__REDIS__URL", &url), topology, ("BACKEND__REDIS__SENTINEL_PRIMARY", primary)]);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16_383)
        .exec(&mut redis::Client::open(url(&clustered)).unwrap().get_connection().unwrap())
        .unwrap();
    let (_, said) = backend(&[("BACKEND__REDIS__URL", &url(&clustered))]);
    assert!(said.contains("set `redis.topology` to \"cluster\""), "{said}");
}

#[test]
fn another_number_of_partitions_than_is_stored_is_refused() {
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let client = redis::Client::open(url.as_str()).unwrap();
    redis::cmd("SET").arg("{edge}:partitions").arg(4).exec(&mut client.get_connection().unwrap()).unwrap();
    let (code, said) = backend(&[("BACKEND__REDIS__URL", &url)]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`redis.partitions` is 16") && said.contains("set it to 4"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = backend(&[("BACKEND__INGEST__LISTEN", &address)]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("`ingest.listen`"), "{said}");
}

#[test]
fn guardctl_says_what_it_cannot_do() {
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
