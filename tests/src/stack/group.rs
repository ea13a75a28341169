//! Several Redis servers of which one takes over where another fails: a primary and its replica under sentinels, or a
//! cluster.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use redis::{Client, FromRedisValue, RedisResult, Value};

use crate::{
    process::{Process, free_port},
    tools,
};

/// How the servers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A primary, its replica, and three sentinels.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
}

/// The servers, stopped when dropped.
pub struct Group {
    kind: Kind,
    folder: PathBuf,
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

struct Server {
    port: u16,
    /// That on which a cluster's servers talk to each other.
    bus: u16,
    process: Option<Process>,
}

/// The name that the sentinels know the primary by.
const NAME: &str = "edge";
/// How long the servers may take to agree. Sentinels that got no time for two seconds do nothing for 30 (they call it TILT).
const PATIENCE: Duration = Duration::from_secs(90);
/// How much of each server's log is shown where they do not.
const LINES: usize = 8;
/// How many hash slots a cluster has.
const SLOTS: usize = 16_384;

impl Group {
    /// Starts the servers, and waits until each has its role.
    ///
    /// # Errors
    /// Where one does not start, or they do not agree.
    pub fn start(folder: &Path, kind: Kind) -> Result<Self> {
        let mut group = Self { kind, folder: folder.to_owned(), servers: Vec::new(), sentinels: Vec::new() };
        let count = if kind == Kind::Cluster { 6 } else { 2 };
        for number in 0..count {
            group.servers.push(Server { port: free_port()?, bus: free_port()?, process: None });
            group.start_server(number)?;
        }
        match kind {
            Kind::Sentinel => {
                let of = group.servers[0].port.to_string();
                ask::<()>(group.servers[1].port, &["REPLICAOF", "127.0.0.1", &of])?;
                group.wait_for("the replica", |group| group.is_replica(1))?;
                group.start_sentinels()?;
            }
            Kind::Cluster => group.make_cluster()?,
        }
        Ok(group)
    }

    /// What the backend has to be told.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let (topology, named) = match self.kind {
            Kind::Sentinel => ("sentinel", &self.sentinels),
            Kind::Cluster => ("cluster", &self.servers),
        };
        let urls: Vec<_> = named.iter().map(|server| url(server.port)).collect();
        vec![
            ("BACKEND__REDIS__URL", urls.join(" ")),
            ("BACKEND__REDIS__TOPOLOGY", topology.to_owned()),
            ("BACKEND__REDIS__SENTINEL_PRIMARY", NAME.to_owned()),
            ("BACKEND__REDIS__DURABILITY", "replicas:1".to_owned()),
        ]
    }

    /// The URLs of the primaries, which together hold everything.
    ///
    /// # Errors
    /// Where the servers do not agree which they are.
    pub fn primaries(&self) -> Result<Vec<String>> {
        Ok(self.settled()?.into_iter().map(url).collect())
    }

    /// A primary dies, or hangs where `hangs`, until its replica has taken over; then it comes back.
    /// `which` chooses among the primaries.
    ///
    /// # Errors
    /// Where nobody takes over, or it does not come back.
    pub fn fail_over(&mut self, which: usize, hangs: bool) -> Result<()> {
        let before = self.settled()?;
        let port = before[which % before.len()];
        let failing = self.servers.iter().position(|server| server.port == port).context("a server of ours")?;
        let process = self.servers[failing].process.as_mut().context("the server runs")?;
        if hangs {
            process.signal("STOP")?;
        } else {
            process.kill()?;
        }
        self.wait_for("another primary", |group| {
            let now = group.agreed().unwrap_or_default();
            let is_other = !now.is_empty() && now.iter().all(|port| *port != group.servers[failing].port);
            Ok(is_other && now.len() == before.len() && now.iter().all(|&port| is_primary(port)))
        })?;
        if hangs {
            self.servers[failing].process.as_ref().context("the server runs")?.signal("CONT")?;
        } else {
            self.start_server(failing)?;
        }
        // Which of the two is not said: a busy machine may make the new primary seem to be down, and the old one take over.
        let replicas = self.servers.len() - before.len();
        self.wait_for("a replica of every primary", |group| {
            let is_replica = |number: &usize| group.is_replica(*number).unwrap_or(false);
            Ok((0..group.servers.len()).filter(is_replica).count() == replicas)
        })
    }

    /// The ports of the primaries, once all of them say so themselves. A busy machine may take more than one question.
    fn settled(&self) -> Result<Vec<u16>> {
        let settled = Cell::new(Vec::new());
        self.wait_for("agreement on the primaries", |group| {
            let ports = group.agreed()?;
            let is_settled = !ports.is_empty() && ports.iter().all(|&port| is_primary(port));
            settled.set(ports);
            Ok(is_settled)
        })?;
        Ok(settled.take())
    }

    /// The ports of the primaries, by what a server says that was not the one to fail: a sentinel, or any of a cluster's.
    fn agreed(&self) -> Result<Vec<u16>> {
        if let Some(sentinel) = self.sentinels.first() {
            let (_, port): (String, String) = ask(sentinel.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?;
            return Ok(vec![port.parse()?]);
        }
        let mut newest = (0, Vec::new());
        for server in &self.servers {
            let Ok(info) = ask::<String>(server.port, &["CLUSTER", "INFO"]) else { continue };
            let Ok(slots) = ask::<Vec<Vec<Value>>>(server.port, &["CLUSTER", "SLOTS"]) else { continue };
            let epoch: u64 = value(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
            let is_whole = value(&info, "cluster_state") == Some("ok");
            if is_whole && epoch >= newest.0 {
                let port = |range: &Vec<Value>| {
                    let primary = Vec::<Value>::from_redis_value(range.get(2)?.clone()).ok()?;
                    u16::from_redis_value(primary.get(1)?.clone()).ok()
                };
                newest = (epoch, slots.iter().filter_map(port).collect());
            }
        }
        Ok(newest.1)
    }

    /// Whether a server is a replica that has all of its primary's data, and the primary knows it.
    fn is_replica(&self, number: usize) -> Result<bool> {
        let info: String = ask(self.servers[number].port, &["INFO", "replication"])?;
        let primary = value(&info, "master_port").and_then(|port| port.parse::<u16>().ok());
        let Some(primary) = primary.filter(|_| value(&info, "master_link_status") == Some("up")) else {
            return Ok(false);
        };
        let info: String = ask(primary, &["INFO", "replication"])?;
        let online = format!("port={},state=online", self.servers[number].port);
        Ok(is_primary(primary) && info.contains(&online))
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        let Server { port, bus, .. } = self.servers[number];
        let folder = self.folder.join(format!("redis-{port}"));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(tools::redis_server()?);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(&folder);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        if self.kind == Kind::Cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
            command.args(["--cluster-port", &bus.to_string()]);
        }
        self.servers[number].process = Some(start("redis-server", &mut command, &folder, port)?);
        Ok(())
    }

    fn start_sentinels(&mut self) -> Result<()> {
        for _ in 0..3 {
            let port = free_port()?;
            let folder = self.folder.join(format!("sentinel-{port}"));
            fs::create_dir_all(&folder)?;
            let file = folder.join("sentinel.conf");
            let primary = self.servers[0].port;
            let settings = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n"
            );
            fs::write(&file, settings)?;
            let mut command = Command::new(tools::redis_server()?);
            command.arg(&file).arg("--sentinel").arg("--dir").arg(&folder);
            let process = Some(start("redis-sentinel", &mut command, &folder, port)?);
            self.sentinels.push(Server { port, bus: 0, process });
        }
        self.wait_for("the sentinels", |group| {
            let knows_all = |port| -> Result<bool> {
                let state: std::collections::HashMap<String, String> = ask(port, &["SENTINEL", "MASTER", NAME])?;
                let number = |name: &str| state.get(name).and_then(|number| number.parse().ok()).unwrap_or(0);
                Ok(number("num-other-sentinels") == 2 && number("num-slaves") == 1)
            };
            Ok(group.sentinels.iter().all(|sentinel| knows_all(sentinel.port).unwrap_or(false)))
        })
    }

    fn make_cluster(&self) -> Result<()> {
        for (number, server) in self.servers.iter().enumerate() {
            ask::<()>(server.port, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
            if number < 3 {
                let (first, last) = (number * SLOTS / 3, (number + 1) * SLOTS / 3 - 1);
                ask::<()>(server.port, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
            }
            let (port, bus) = (server.port.to_string(), server.bus.to_string());
            ask::<()>(self.servers[0].port, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        self.wait_for("all servers to know each other", |group| {
            let knows_all = |server: &Server| -> Result<bool> {
                let info: String = ask(server.port, &["CLUSTER", "INFO"])?;
                Ok(value(&info, "cluster_known_nodes") == Some("6") && value(&info, "cluster_state") == Some("ok"))
            };
            Ok(group.servers.iter().all(|server| knows_all(server).unwrap_or(false)))
        })?;
        for (replica, primary) in self.servers[3..].iter().zip(&self.servers) {
            let id: String = ask(primary.port, &["CLUSTER", "MYID"])?;
            ask::<()>(replica.port, &["CLUSTER", "REPLICATE", &id])?;
        }
        for number in 3..6 {
            self.wait_for("a replica", |group| group.is_replica(number))?;
        }
        self.wait_for("three primaries", |group| Ok(group.agreed()?.len() == 3))
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self).unwrap_or(false) {
            if Instant::now() > deadline {
                let (states, lines) = (self.states(), self.last_lines());
                bail!("{:?}: {what} did not come to be within {PATIENCE:?}\n{states}{lines}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the servers say of themselves and of each other.
    fn states(&self) -> String {
        let tells = ["role", "master_host", "master_port", "master_link", "master_sync", "slave"];
        let mut text = format!("agreed: {:?}\n", self.agreed());
        for Server { port, .. } in &self.servers {
            let info = ask::<String>(*port, &["INFO", "replication"]).unwrap_or_else(|error| format!("role: {error}"));
            let lines: Vec<_> = info.lines().filter(|line| tells.iter().any(|name| line.starts_with(name))).collect();
            text.push_str(&format!("{port}: {}\n", lines.join(" ")));
        }
        text
    }

    /// What the servers said last.
    fn last_lines(&self) -> String {
        let mut text = String::new();
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in folders.map(|folder| folder.path().join("log")) {
            let Ok(log) = fs::read_to_string(&path) else { continue };
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
            text.push_str(&format!("{}:\n{last}\n", path.display()));
        }
        text
    }
}

fn start(name: &'static str, command: &mut Command, folder: &Path, port: u16) -> Result<Process> {
    let mut process = Process::start(name, command, &folder.join("log"))?;
    process.wait_until(PATIENCE, || ask::<()>(port, &["PING"]).is_ok())?;
    Ok(process)
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// Asks a server, or gives up soon: it may hang.
fn ask<T: FromRedisValue>(port: u16, command: &[&str]) -> RedisResult<T> {
    let patience = Duration::from_millis(500);
    let mut connection = Client::open(url(port))?.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    let mut asked = redis::cmd(command[0]);
    asked.arg(&command[1..]);
    asked.query(&mut connection)
}

fn is_primary(port: u16) -> bool {
    let role = ask::<Vec<Value>>(port, &["ROLE"]).ok().and_then(|role| role.into_iter().next());
    role.and_then(|role| String::from_redis_value(role).ok()).is_some_and(|role| role == "master")
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}
