//! What is measured, as processes of its own.

use std::{process::Command, time::Duration};

use anyhow::Result;
use envelope::{
    Feature,
    headers::{self, Judgement, Mark},
};
use redis::aio::MultiplexedConnection;
use tests::{
    load,
    process::{Process, free_port},
    tools,
};
use tokio::net::TcpListener;

/// How Redis keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Memory,
    EverySecond,
    Fsync,
}

impl Keeping {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::EverySecond, Self::Fsync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "In memory (`durability = \"memory\"`, no append-only file)",
            Self::EverySecond => "On disk every second (`durability = \"memory\"`, `appendfsync everysec`)",
            Self::Fsync => "On disk before the answer (`durability = \"fsync\"`, `appendfsync always`)",
        }
    }

    fn of_redis(self) -> [&'static str; 4] {
        match self {
            Self::Memory => ["--appendonly", "no", "--appendfsync", "no"],
            Self::EverySecond => ["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Fsync => ["--appendonly", "yes", "--appendfsync", "always"],
        }
    }

    fn of_backend(self) -> &'static str {
        if self == Self::Fsync { "fsync" } else { "memory" }
    }
}

/// Redis, the backend, and axum that stores nothing.
pub(crate) struct Programs {
    pub(crate) nothing: Process,
    pub(crate) nothing_port: u16,
    pub(crate) backend: Process,
    pub(crate) ingest_port: u16,
    pub(crate) redis: Process,
    pub(crate) redis_url: String,
    connection: MultiplexedConnection,
    _folder: tempfile::TempDir,
}

const PATIENCE: Duration = Duration::from_secs(30);
const PROOF: &str = "a-proof-for-this-machine-alone";
/// What the Partner API answers to everything: an extraction as it is documented.
const EXTRACTION: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 112\r\n\r\n\
    {\"success\":true,\"message\":\"OK\",\"data\":{\"id\":\"c\",\"extraction\":[{\"status\":\"completed\",\"totals\":{\"credits\":180}}]}}";

impl Programs {
    pub(crate) async fn start(keeping: Keeping) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (nothing_port, ingest_port, admin_port, redis_port) =
            (free_port()?, free_port()?, free_port()?, free_port()?);
        let answers = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();

        let mut command = Command::new(tools::redis_server()?);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &redis_port.to_string(), "--dir"]);
        command.arg(folder.path()).args(keeping.of_redis());
        let mut redis = Process::start("redis-server", &mut command, &folder.path().join("redis.log"))?;
        redis.wait_until(PATIENCE, || answers(redis_port))?;
        let redis_url = format!("redis://127.0.0.1:{redis_port}");
        let connection = redis::Client::open(redis_url.as_str())?.get_multiplexed_async_connection().await?;

        let api = TcpListener::bind("127.0.0.1:0").await?;
        let api_port = api.local_addr()?.port();
        tokio::spawn(load::answer_all(api, EXTRACTION));
        let mut command = Command::new(tools::release_binary("backend", "backend")?);
        command.arg("serve").envs([
            ("EDGE__INGEST__LISTEN", format!("127.0.0.1:{ingest_port}")),
            ("EDGE__INGEST__PROOF", PROOF.to_owned()),
            ("EDGE__ADMIN__LISTEN", format!("127.0.0.1:{admin_port}")),
            ("EDGE__REDIS__URL", redis_url.clone()),
            ("EDGE__REDIS__DURABILITY", keeping.of_backend().to_owned()),
            ("EDGE__WORKER__LEASE_MS", "1000".to_owned()),
            ("EDGE__PARTNER_API__BASE_URL", format!("http://127.0.0.1:{api_port}")),
            ("EDGE__PARTNER_API__API_KEY", "key".to_owned()),
            ("EDGE__PARTNER_API__RATE_PER_SECOND", "100000".to_owned()),
            ("EDGE__PARTNER_API__MAX_CONCURRENT", "256".to_owned()),
            ("EDGE__WORKER__PARALLELISM", "256".to_owned()),
            ("EDGE__RECONCILER__INTERVAL_S", "0".to_owned()),
            ("EDGE__LOG__LEVEL", "warn".to_owned()),
        ]);
        let mut backend = Process::start("backend", &mut command, &folder.path().join("backend.log"))?;
        backend.wait_until(PATIENCE, || answers(ingest_port))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve-nothing", &nothing_port.to_string()]);
        let mut nothing = Process::start("axum", &mut command, &folder.path().join("axum.log"))?;
        nothing.wait_until(PATIENCE, || answers(nothing_port))?;
        let programs =
            Self { nothing, nothing_port, backend, ingest_port, redis, redis_url, connection, _folder: folder };
        programs.pause().await?;
        // Until the backend has heard of the pause.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(programs)
    }

    /// Forgets every event. The backend goes on to work on nothing.
    pub(crate) async fn empty_redis(&self) -> Result<()> {
        redis::cmd("FLUSHALL").exec_async(&mut self.connection.clone()).await?;
        self.pause().await
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        let names = Feature::ALL.map(Feature::as_str);
        Ok(redis::cmd("SADD").arg("{edge}:paused").arg(&names).exec_async(&mut self.connection.clone()).await?)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        Ok(redis::cmd("DEL").arg("{edge}:paused").exec_async(&mut self.connection.clone()).await?)
    }

    /// How many events are not worked on yet.
    pub(crate) async fn waiting(&self) -> Result<u64> {
        let mut lengths = redis::pipe();
        for partition in 0..16 {
            lengths.cmd("XLEN").arg(format!("{{edge:{partition}}}:inbox:extraction"));
        }
        let lengths: Vec<u64> = lengths.query_async(&mut self.connection.clone()).await?;
        Ok(lengths.iter().sum())
    }
}

pub(crate) fn case(number: u64) -> String {
    format!("6850abc123def{number:09}")
}

pub(crate) fn body(number: u64) -> String {
    let case = case(number);
    format!(
        r#"{{"eventName":"case.extraction.completed","payload":{{"caseId":"{case}","externalId":"applicant-9876","occurredAt":"2025-06-22T10:30:00Z"}}}}"#
    )
}

/// As Envoy sends it: judged.
pub(crate) fn request(number: u64) -> Vec<u8> {
    let (body, name) = (body(number), headers::JUDGED);
    let judged = Judgement::write(PROOF, "bench", Mark::Accepted);
    format!(
        "POST /webhooks/truenroll HTTP/1.1\r\nhost: backend\r\ncontent-type: application/json\r\n{name}: {judged}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
