//! Several Redis servers, of which one takes over when another fails: a primary and a replica under
//! sentinels, or a cluster.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{backend_settings::BackendSettings, redis_server::RedisServer};

mod report;
mod start;
mod state;

/// How the servers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A primary, a replica, and three sentinels.
    Sentinel,
    /// Three primaries with one replica each.
    Cluster,
}

/// How a primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The process is killed.
    Killed,
    /// The process hangs.
    Hangs,
}

/// The servers. They are killed when dropped.
pub struct Group {
    kind: Kind,
    folder: PathBuf,
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

/// The name by which the sentinels know the primary.
const NAME: &str = "edge";
/// How long the servers may take to agree. A sentinel that got no CPU time for two seconds does
/// nothing for 30 seconds (Redis calls this TILT).
const PATIENCE: Duration = Duration::from_secs(90);

impl Group {
    /// Starts the servers, and waits until each has its role.
    ///
    /// # Errors
    /// If a server does not start, or the servers do not agree in time.
    pub fn start(folder: &Path, kind: Kind) -> Result<Self> {
        let mut group = Self { kind, folder: folder.to_owned(), servers: Vec::new(), sentinels: Vec::new() };
        match kind {
            Kind::Sentinel => group.start_sentinel_group()?,
            Kind::Cluster => group.start_cluster()?,
        }
        Ok(group)
    }

    /// The settings that make a backend use these servers.
    pub fn settings(&self) -> BackendSettings {
        let (topology, named) = match self.kind {
            Kind::Sentinel => ("sentinel", &self.sentinels),
            Kind::Cluster => ("cluster", &self.servers),
        };
        let urls: Vec<_> = named.iter().map(RedisServer::url).collect();
        BackendSettings::default()
            .with("redis.url", urls.join(" "))
            .with("redis.topology", topology)
            .with("redis.sentinel_primary", NAME)
            .with("redis.durability", "replicas:1")
    }

    /// The URLs of all primaries.
    ///
    /// # Errors
    /// If the servers do not agree in time which of them are primaries.
    pub fn primaries(&self) -> Result<Vec<String>> {
        Ok(self.settled()?.into_iter().map(|port| format!("redis://{}", loopback(port))).collect())
    }

    /// Makes a primary fail until its replica has taken over, and then brings it back. `which`
    /// selects the primary, modulo their number.
    ///
    /// # Errors
    /// If no replica takes over in time, or the failed server does not come back.
    pub fn fail_over(&mut self, which: usize, failure: Failure) -> Result<()> {
        let before = self.settled()?;
        let port = before[which % before.len()];
        let failing = self.servers.iter().position(|server| server.port() == port);
        let failing = failing.context("the primary is not a server of this group")?;
        match failure {
            Failure::Hangs => self.servers[failing].process.signal("STOP")?,
            Failure::Killed => self.servers[failing].process.kill()?,
        }
        self.wait_for("another primary takes over", |group| {
            let now = group.agreed().unwrap_or_default();
            Ok(now.len() == before.len() && !now.contains(&port) && now.iter().all(|&port| state::is_primary(port)))
        })?;
        match failure {
            Failure::Hangs => self.servers[failing].process.signal("CONT")?,
            Failure::Killed => self.servers[failing].start_again()?,
        }
        // Either of the two may be the replica: on a busy machine the new primary may seem down,
        // and the old one take over.
        let replicas = self.servers.len() - before.len();
        self.wait_for("every primary has a replica", |group| {
            let servers = group.servers.iter();
            Ok(servers.filter(|server| group.is_replica(server).unwrap_or(false)).count() == replicas)
        })
    }

    /// The ports of the primaries, once all of them say so themselves.
    fn settled(&self) -> Result<Vec<u16>> {
        let settled = Cell::new(Vec::new());
        self.wait_for("the servers agree on the primaries", |group| {
            let ports = group.agreed()?;
            let is_settled = !ports.is_empty() && ports.iter().all(|&port| state::is_primary(port));
            settled.set(ports);
            Ok(is_settled)
        })?;
        Ok(settled.take())
    }

    /// Waits until `condition` is true. On a busy machine a server may not answer at first, so
    /// errors count as false.
    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self).unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("{:?}: waited {PATIENCE:?} in vain until {what}\n{}", self.kind, self.report());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
