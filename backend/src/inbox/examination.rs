//! What `backend doctor` asks Redis. Nothing here writes, and nothing depends on whether a server
//! is fit.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::Feature;
use redis::FromRedisValue;
use tokio::time::Instant;

use super::{
    Contents, Inbox, InboxError,
    error::within,
    format::{SUPPORTED, Stored, User},
    servers::{Requirements, Server, unfit},
};
use crate::{
    config::Config,
    time::{from_millis, to_millis},
};

mod info;

pub use info::ServerInfo;

/// The servers and what they hold, to be examined.
pub struct Examination {
    inbox: Inbox,
    requirements: Requirements,
}

/// A reading of a server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The server's address.
    pub address: String,
    /// The time by the server's clock.
    pub theirs: SystemTime,
    /// The time by this machine's clock, halfway between the question and the answer.
    pub ours: SystemTime,
}

/// Who works on the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// How many backends are at work.
    pub members: u64,
    /// How many partitions have an owner.
    pub owned: u32,
    /// How many partitions there are.
    pub partitions: u32,
}

/// The events that are neither completed nor dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many they are.
    pub events: u64,
    /// How long ago the oldest of them was stored, by the clock of Redis.
    pub oldest: Option<Duration>,
    /// The paused features.
    pub paused: Vec<Feature>,
}

impl Inbox {
    /// Returns the servers of this inbox and what they hold, to be examined.
    pub fn examined(&self, config: &Config) -> Examination {
        Examination::of(self, config)
    }
}

/// How often a server is asked to measure its latency.
const PINGS: usize = 5;

impl Examination {
    /// Connects to the servers.
    ///
    /// # Errors
    /// If no server answers, or they do not form the configured topology.
    pub async fn begin(config: &Config, patience: Duration) -> Result<Self, InboxError> {
        Ok(Self::of(&Inbox::reach(User::Command, config, patience).await?, config))
    }

    /// Examines the servers over the connections of a running backend.
    fn of(inbox: &Inbox, config: &Config) -> Self {
        Self { inbox: inbox.clone(), requirements: Requirements::of(&config.redis, inbox.timeout) }
    }

    /// Returns what each server says about itself.
    ///
    /// # Errors
    /// If a server does not answer.
    pub async fn infos(&self) -> Result<Vec<ServerInfo>, InboxError> {
        let mut infos = Vec::new();
        for (address, server) in self.servers() {
            let info: String = self.ask(&server, redis::cmd("INFO")).await?;
            infos.push(ServerInfo::read(address, &info));
        }
        Ok(infos)
    }

    /// Measures how long each server takes to answer, as the median of several questions.
    ///
    /// # Errors
    /// If a server does not answer.
    pub async fn latencies(&self) -> Result<Vec<(String, Duration)>, InboxError> {
        let mut latencies = Vec::new();
        for (address, server) in self.servers() {
            let mut taken = [Duration::ZERO; PINGS];
            for taken in &mut taken {
                let asked = Instant::now();
                () = self.ask(&server, redis::cmd("PING")).await?;
                *taken = asked.elapsed();
            }
            taken.sort_unstable();
            latencies.push((address, taken[PINGS / 2]));
        }
        Ok(latencies)
    }

    /// Makes sure that no server evicts keys.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if one does, another error if that is unknown.
    pub async fn ensure_no_eviction(&self) -> Result<(), InboxError> {
        for (address, server) in self.servers() {
            self.requirements.check_eviction(&address, &mut server.connection()).await?;
        }
        Ok(())
    }

    /// Makes sure that each server keeps events as `redis.durability` demands. Returns whether each
    /// of them syncs every event before it answers.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if one does not, another error if that is unknown.
    pub async fn ensure_durable(&self) -> Result<bool, InboxError> {
        let mut syncs_always = true;
        for (address, server) in self.servers() {
            let proof = self.requirements.check_durability(&address, &mut server.connection()).await?;
            syncs_always &= proof.syncs_always;
        }
        Ok(syncs_always)
    }

    /// Reads the clock of each server.
    ///
    /// # Errors
    /// If a server does not answer.
    pub async fn clocks(&self) -> Result<Vec<Clock>, InboxError> {
        let mut clocks = Vec::new();
        for (address, server) in self.servers() {
            let asked = Instant::now();
            let theirs = self.time(&server).await?;
            let ours = SystemTime::now() - asked.elapsed() / 2;
            clocks.push(Clock { address, theirs, ours });
        }
        Ok(clocks)
    }

    /// Returns the time by the slowest clock of all servers. The identifier of a stream's entry begins
    /// with the time of its server, so no entry that is added from now on is older.
    ///
    /// # Errors
    /// If a server does not answer.
    pub async fn slowest_clock(&self) -> Result<SystemTime, InboxError> {
        let clocks = self.clocks().await?;
        Ok(clocks.iter().map(|clock| clock.theirs).min().unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Makes sure that this version may use every partition, and that there are as many as
    /// configured. Returns the lowest format.
    ///
    /// # Errors
    /// Returns [`InboxError::Partitions`] or [`InboxError::Unfit`] if not, another error if that is
    /// unknown.
    pub async fn ensure_usable(&self) -> Result<u32, InboxError> {
        self.inbox.ensure_same_partitions().await?;
        let mut lowest = SUPPORTED.newest;
        for partition in 0..self.inbox.partitions() {
            let server = self.inbox.servers.of_partition(partition);
            let key = self.inbox.keys.of_partition(partition).format();
            let mut command = redis::cmd("HMGET");
            command.arg(&key).arg(&Stored::FIELDS);
            let stored = async { Stored::answered(&key, command.query_async(&mut server.connection()).await) };
            let unfit = |problem| unfit(&server.address(), &problem);
            let stored = within(self.inbox.timeout, stored).await?.map_err(unfit)?;
            SUPPORTED.judge(&stored, User::Backend).map_err(unfit)?;
            lowest = lowest.min(stored.format);
        }
        Ok(lowest)
    }

    /// Returns who works on the partitions, of which `contents` says how many have an owner.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn ownership(&self, contents: &Contents) -> Result<Ownership, InboxError> {
        let common = self.inbox.servers.of_common();
        let mut count = redis::cmd("ZCOUNT");
        count.arg(self.inbox.keys.members()).arg(to_millis(self.time(&common).await?)).arg("+inf");
        let members = self.ask(&common, count).await?;
        Ok(Ownership { members, owned: contents.owned, partitions: self.inbox.partitions() })
    }

    /// Returns how many events wait or are in progress, and for how long, as `contents` says.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn backlog(&self, contents: &Contents) -> Result<Backlog, InboxError> {
        let mut paused: Vec<_> = self.inbox.paused().await?.features.into_iter().collect();
        paused.sort_unstable();
        let oldest = match contents.oldest.into_iter().flatten().min() {
            Some(oldest) => Some(self.slowest_clock().await?.duration_since(oldest).unwrap_or_default()),
            None => None,
        };
        Ok(Backlog { events: contents.pending, oldest, paused })
    }

    /// Returns how much the inbox holds.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn contents(&self) -> Result<Contents, InboxError> {
        self.inbox.contents().await
    }

    fn servers(&self) -> impl Iterator<Item = (String, Arc<Server>)> {
        self.inbox.servers.all().into_iter()
    }

    async fn time(&self, server: &Server) -> Result<SystemTime, InboxError> {
        let (seconds, micros): (u64, u64) = self.ask(server, redis::cmd("TIME")).await?;
        Ok(from_millis(seconds * 1_000 + micros / 1_000))
    }

    async fn ask<T: FromRedisValue>(&self, server: &Server, command: redis::Cmd) -> Result<T, InboxError> {
        within(self.inbox.timeout, command.query_async(&mut server.connection())).await
    }
}
