//! Redis servers. This module is the only place that starts one.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use redis::{Client, FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::{
    namespace::Namespace,
    process::{Process, free_port},
    tools,
};

/// Syncs every write to the append-only file before it answers, as the backend asks for by default.
pub const FSYNC: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
/// Syncs the append-only file once per second.
pub const EVERY_SECOND: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];
/// Keeps everything in memory only.
pub const IN_MEMORY: [&str; 4] = ["--appendonly", "no", "--appendfsync", "always"];

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a server may take to answer one question. A server that was stopped by a signal never
/// answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How to start a server.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The data folder. The log is beside it, with the extension `log`. `None` for a temporary
    /// folder.
    pub folder: Option<PathBuf>,
    /// The port; `None` for a free one.
    pub port: Option<u16>,
    /// The server's command-line options.
    pub settings: Vec<String>,
    /// The largest file in bytes that the server can write. Further writes fail, as on a full disk.
    pub file_limit: Option<u64>,
    /// The configuration file of a sentinel; `None` for an ordinary server.
    pub sentinel: Option<String>,
    /// What has to be true before the server counts as started.
    pub readiness: Readiness,
}

/// What has to be true before a server counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It answers commands.
    Answers,
    /// It accepts connections. It may still be loading its data.
    Listens,
}

/// A running server. It is killed when dropped.
pub struct RedisServer {
    /// The server's process.
    pub process: Process,
    options: RedisOptions,
    launch: Launch,
    _temporary: Option<TempDir>,
}

/// What stays the same when a server is started again.
struct Launch {
    /// The command that runs the server's command: none, or one that enters a network namespace.
    prefix: Vec<String>,
    address: SocketAddr,
    folder: PathBuf,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            folder: None,
            port: None,
            settings: Vec::new(),
            file_limit: None,
            sentinel: None,
            readiness: Readiness::Answers,
        }
    }
}

impl RedisOptions {
    /// A server with these command-line options, on a free port and in a temporary folder.
    pub fn with(settings: &[&str]) -> Self {
        Self { settings: settings.iter().map(|setting| (*setting).to_owned()).collect(), ..Self::default() }
    }
}

impl RedisServer {
    /// Starts a server on the loopback interface and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready in time; with the end of its log.
    pub fn start(options: RedisOptions) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, Vec::new(), options)
    }

    /// Starts a server in a network namespace and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready in time; with the end of its log.
    pub fn start_in(namespace: &Namespace, mut options: RedisOptions) -> Result<Self> {
        options.settings.extend(["--protected-mode".to_owned(), "no".to_owned()]);
        Self::start_at(namespace.address(), namespace.command_prefix()?, options)
    }

    fn start_at(address: Ipv4Addr, prefix: Vec<String>, options: RedisOptions) -> Result<Self> {
        let port = options.port.map_or_else(free_port, Ok)?;
        let temporary = if options.folder.is_none() { Some(tempfile::tempdir()?) } else { None };
        let temporary_folder = temporary.as_ref().map(|folder| folder.path().join("redis"));
        let folder = options.folder.clone().or(temporary_folder).unwrap_or_default();
        fs::create_dir_all(&folder)?;
        let launch = Launch { prefix, address: SocketAddr::new(IpAddr::V4(address), port), folder };
        let process = launch.run(&options)?;
        Ok(Self { process, options, launch, _temporary: temporary })
    }

    /// Starts the server again, on the same port and data, after it was stopped or killed.
    ///
    /// # Errors
    /// If it does not become ready in time; with the end of its log.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = self.launch.run(&self.options)?;
        Ok(())
    }

    /// Kills the server and starts another one on the same port and data, with other options.
    ///
    /// # Errors
    /// If it does not become ready in time; with the end of its log.
    pub fn replace(&mut self, options: RedisOptions) -> Result<()> {
        self.process.kill()?;
        self.options = options;
        self.start_again()
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.launch.address.port()
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.launch.address
    }

    /// The server's URL, `redis://…`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.launch.address)
    }

    /// Sends one command and returns the answer. Gives up soon, since the server may hang.
    ///
    /// # Errors
    /// If the server does not answer, or answers with an error.
    pub fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        ask(self.launch.address, command)
    }
}

impl Launch {
    fn run(&self, options: &RedisOptions) -> Result<Process> {
        let mut words = self.prefix.clone();
        if let Some(bytes) = options.file_limit {
            // A process that exceeds the limit is killed unless it ignores SIGXFSZ. `ulimit` counts
            // in units of 512.
            let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
            words.extend(["sh".to_owned(), "-c".to_owned(), script]);
        }
        words.push(tools::redis_server()?.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let name = if let Some(config) = &options.sentinel {
            let file = self.folder.join("sentinel.conf");
            fs::write(&file, config)?;
            command.arg(file).arg("--sentinel");
            "redis-sentinel"
        } else {
            "redis-server"
        };
        if options.sentinel.is_none() {
            command.args(["--bind", &self.address.ip().to_string(), "--port", &self.address.port().to_string()]);
            command.args(["--save", ""]).args(&options.settings);
        }
        command.arg("--dir").arg(&self.folder);
        let mut process = Process::start(name, &mut command, &self.folder.with_extension("log"))?;
        process.wait_until(PATIENCE, || match options.readiness {
            Readiness::Answers => ask::<()>(self.address, &["PING"]).is_ok(),
            Readiness::Listens => TcpStream::connect_timeout(&self.address, ANSWER_TIMEOUT).is_ok(),
        })?;
        Ok(process)
    }
}

/// Sends one command to the server at `address` and returns the answer. Gives up soon, since the
/// server may hang.
///
/// # Errors
/// If the server does not answer, or answers with an error.
pub fn ask<T: FromRedisValue>(address: SocketAddr, command: &[&str]) -> RedisResult<T> {
    let client = Client::open(format!("redis://{address}"))?;
    let mut connection = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
}
