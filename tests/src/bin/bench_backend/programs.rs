//! The programs that are measured, each in a process of its own.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use envelope::{
    Feature,
    headers::{self, Judgement, Mark},
};
use harness::{
    backend_settings::{BackendSettings, PROOF},
    keys, load,
    process::{Process, free_port},
    redis_server::{EVERY_SECOND, FSYNC, IN_MEMORY, RedisOptions, RedisServer},
    tools,
};
use redis::{InfoDict, aio::MultiplexedConnection};
use tokio::net::TcpListener;

/// How durably Redis stores events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    Memory,
    EverySecond,
    Fsync,
}

impl Keeping {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::EverySecond, Self::Fsync];

    pub(crate) fn short_name(self) -> &'static str {
        match self {
            Self::Memory => "in memory",
            Self::EverySecond => "on disk every second",
            Self::Fsync => "on disk before the answer",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "In memory (`durability = \"memory\"`, no append-only file)",
            Self::EverySecond => "On disk every second (`durability = \"memory\"`, `appendfsync everysec`)",
            Self::Fsync => "On disk before the answer (`durability = \"fsync\"`, `appendfsync always`)",
        }
    }

    fn of_redis(self) -> [&'static str; 4] {
        match self {
            Self::Memory => IN_MEMORY,
            Self::EverySecond => EVERY_SECOND,
            Self::Fsync => FSYNC,
        }
    }

    fn of_backend(self) -> &'static str {
        if self == Self::Fsync { "fsync" } else { "memory" }
    }
}

/// What to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) keeping: Keeping,
    pub(crate) backends: usize,
    pub(crate) partitions: u32,
    /// Whether the backends write the history, as they do by default.
    pub(crate) has_history: bool,
    /// The share of events that are traced; `None` for backends without a collector.
    pub(crate) sampling: Option<f64>,
}

impl Setup {
    /// One backend with the default settings.
    pub(crate) fn usual(keeping: Keeping) -> Self {
        Self { keeping, backends: 1, partitions: 16, has_history: true, sampling: None }
    }
}

/// Redis, the backends, and the programs to compare them with.
pub(crate) struct Programs {
    pub(crate) backends: Vec<Served>,
    /// axum that stores nothing.
    pub(crate) nothing: Served,
    /// The naive design.
    pub(crate) naive: Served,
    pub(crate) redis: RedisServer,
    pub(crate) redis_url: String,
    setup: Setup,
    connection: MultiplexedConnection,
    _folder: tempfile::TempDir,
}

/// A program that answers on a port.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

const PATIENCE: Duration = Duration::from_secs(30);
/// The Partner API's answer to every call: an extraction, as documented.
const EXTRACTION: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 112\r\n\r\n\
    {\"success\":true,\"message\":\"OK\",\"data\":{\"id\":\"c\",\"extraction\":[{\"status\":\"completed\",\"totals\":{\"credits\":180}}]}}";

impl Programs {
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = RedisServer::start(RedisOptions::with(&setup.keeping.of_redis()))?;
        let redis_url = redis.url();
        let connection = redis::Client::open(redis_url.as_str())?.get_multiplexed_async_connection().await?;

        let api = TcpListener::bind("127.0.0.1:0").await?;
        let api_url = format!("http://127.0.0.1:{}", api.local_addr()?.port());
        tokio::spawn(load::answer_all(api, EXTRACTION));
        let collector = TcpListener::bind("127.0.0.1:0").await?;
        let collector_url = format!("http://127.0.0.1:{}", collector.local_addr()?.port());
        tokio::spawn(load::answer_all(collector, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        let mut backends = Vec::new();
        for _ in 0..setup.backends {
            let port = free_port()?;
            let mut settings = BackendSettings::usual(port, free_port()?)
                .with("redis.url", &redis_url)
                .with("redis.durability", setup.keeping.of_backend())
                .with("redis.partitions", setup.partitions)
                .with("history.enabled", setup.has_history)
                .with("partner_api.base_url", &api_url)
                .with("partner_api.rate_per_second", 100_000)
                .with("partner_api.max_concurrent", 256)
                .with("worker.parallelism", 256)
                .with("log.level", "warn");
            if let Some(sampling) = setup.sampling {
                settings.set("telemetry.otlp_endpoint", &collector_url);
                settings.set("telemetry.sampling", sampling);
            }
            // With the features of the images.
            let mut command = Command::new(tools::release_binary("backend", "backend", &["otlp"])?);
            command.arg("serve").envs(settings.environment());
            backends.push(start("backend", &mut command, folder.path(), port)?);
        }
        let this = |arguments: &[&str], port: u16| {
            let mut command = Command::new(std::env::current_exe()?);
            start("peer", command.args(arguments).args(["--port", &port.to_string()]), folder.path(), port)
        };
        let nothing = this(&["--serve", "nothing"], free_port()?)?;
        let naive = this(&["--serve", "naive", "--api", &api_url, "--redis", &redis_url], free_port()?)?;
        let programs = Self { backends, nothing, naive, redis, redis_url, setup, connection, _folder: folder };
        programs.pause().await?;
        // After this time the backends know of the pause.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(programs)
    }

    /// The ports of the backends.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.backends.iter().map(|backend| backend.port).collect()
    }

    /// The CPU times of all backends together, and of Redis.
    pub(crate) fn cpu_times(&self) -> Result<(Duration, Duration)> {
        let times: Result<Vec<_>> = self.backends.iter().map(|backend| backend.process.cpu_time()).collect();
        Ok((times?.into_iter().sum(), self.redis.process.cpu_time()?))
    }

    /// Deletes all events. All features stay paused.
    pub(crate) async fn empty_redis(&self) -> Result<()> {
        redis::cmd("FLUSHALL").exec_async(&mut self.connection.clone()).await?;
        self.pause().await
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        let names = Feature::ALL.map(Feature::as_str);
        Ok(redis::cmd("SADD").arg(keys::keys().paused()).arg(&names).exec_async(&mut self.connection.clone()).await?)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        Ok(redis::cmd("DEL").arg(keys::keys().paused()).exec_async(&mut self.connection.clone()).await?)
    }

    /// How many bytes of memory Redis uses.
    pub(crate) async fn memory(&self) -> Result<u64> {
        let info: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut self.connection.clone()).await?;
        info.get("used_memory").context("Redis does not say how much memory it uses")
    }

    /// The number of events in the inbox.
    pub(crate) async fn waiting(&self) -> Result<u64> {
        let mut lengths = redis::pipe();
        for partition in 0..self.setup.partitions {
            lengths.cmd("XLEN").arg(keys::of_partition(partition).inbox(Feature::Extraction));
        }
        let lengths: Vec<u64> = lengths.query_async(&mut self.connection.clone()).await?;
        Ok(lengths.iter().sum())
    }
}

fn start(name: &'static str, command: &mut Command, folder: &Path, port: u16) -> Result<Served> {
    let mut process = Process::start(name, command, &folder.join(format!("{name}-{port}.log")))?;
    process.wait_until(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(Served { process, port })
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

/// A request as it comes from Envoy, with the filter's verdict.
pub(crate) fn request(number: u64) -> Vec<u8> {
    let body = body(number);
    let name = headers::JUDGED;
    let judged = Judgement::write(PROOF, "bench", Mark::Accepted);
    format!(
        "POST /webhooks/truenroll HTTP/1.1\r\nhost: backend\r\ncontent-type: application/json\r\n{name}: {judged}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
