//! The inbox: where events are stored before we say yes, and stay until they are dealt with. In Redis.
//!
//! # The data structures
//! Cases are spread over a fixed number of partitions by a hash of their identifier. A partition's keys share a hash tag,
//! so that one script can change them all, and so that Redis Cluster can spread the partitions ([`keys`] names them all):
//!
//! - **seen**, one string an event: that the event was received, with the body's hash, until the retention ends; and while
//!   it is a dead letter, which one, so that a redelivery brings it back.
//! - **inbox**, a stream for each feature: the events that are not dealt with, in the order in which they arrived. An event
//!   leaves the stream only when it is completed or buried. So what is pending *is* the stream: a process that takes over a
//!   partition reads it from the start, and there is no second list of what was handed to whom that could disagree with it.
//! - **case**, a hash for each case with an expiry: how many events each feature has had ([`Missing`](cases::Missing)); and **late**, a
//!   string where events were made up for that may still come.
//! - **attempts**, a hash for each inbox, from the entries to how often they were tried, and until when to wait.
//! - **dead**, a stream: the events that could not be handled, with their error, until they are replayed or expire.
//! - **quarantine**, a stream: the events that are not documented, until they are re-admitted ([`quarantine`]) or expire.
//! - **lease**: who owns the partition, by a token that nobody else is ever given. Every write that deals with an event
//!   checks it, so a process that lost its lease without noticing changes nothing. It is a random number and not a
//!   counter, which a failover to a replica could set back.
//!
//! A few keys are of no partition: **members**, the processes that share the partitions out among them ([`Attendance`](members::Attendance)),
//! **paused**, the features that are not worked on ([`Paused`]), and how many **partitions** there are. [`servers`] knows which server
//! holds what.
//!
//! Everything that has to agree is changed by one script. Redis runs a script alone and writes it to its append-only file
//! as a whole; but it does not undo the commands before one that failed, so each script's order of commands matters and
//! is explained in it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{CaseId, Envelope, EventKey, Feature, Timestamp};
use redis::{ErrorKind, IntoConnectionInfo, RedisError, aio::ConnectionManager};
use tokio::time::timeout;

use crate::config::{self, Durability};

mod accept;
mod cases;
mod confirm;
mod dead;
pub mod keys;
mod lease;
mod members;
mod pauses;
pub mod quarantine;
mod reader;
mod scripts;
mod server_check;
mod servers;
mod stream;

pub use cases::Due;
pub use dead::DeadLetter;
pub use lease::{Lease, LeaseError, LeaseLost};
#[cfg(test)]
pub(crate) use members::Attendance;
pub use pauses::Paused;
pub use reader::{Batch, Entry, EntryId, Reader};

use confirm::{Demand, Where};
use keys::Keys;
use server_check::Requirements;
use servers::{Servers, Side};

/// The inbox, cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    servers: Arc<Servers>,
    side: Side,
    keys: Keys,
    retention: Duration,
    unhandled_retention: Duration,
    timeout: Duration,
    requirements: Option<Requirements>,
}

/// Where an event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To be worked on, among the events of that feature.
    Inbox(Feature),
    /// Apart.
    Quarantine,
}

/// An event that is brought to the inbox.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Where to store it.
    pub place: Place,
    /// Its identity.
    pub key: &'a EventKey,
    /// The case it happened to.
    pub case_id: &'a CaseId<'a>,
    /// When the stage ended.
    pub occurred_at: Timestamp,
    /// Its body.
    pub body: &'a [u8],
    /// When it came.
    pub received_at: SystemTime,
    /// For an event that never came and is made up for: how many events the feature must have had, this one included.
    pub missed: Option<u32>,
}

impl<'a> Arrival<'a> {
    /// A documented event that has come just now.
    pub fn now(event: &'a Envelope<'a>, key: &'a EventKey, body: &'a [u8]) -> Self {
        let (place, received_at) = (Place::Inbox(event.event.feature), SystemTime::now());
        Self { place, key, case_id: &event.case_id, occurred_at: event.occurred_at, body, received_at, missed: None }
    }
}

/// What became of an event that was brought to the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new, and it is stored.
    Stored,
    /// It was stored before.
    Duplicate,
    /// It was stored before with another body. What was stored first stands.
    Conflict,
    /// It had been missed, and was made up for before it came.
    AlreadyBackfilled,
    /// It was a dead letter, and is in the inbox again, with the body that was stored first.
    Revived,
}

/// Why the inbox could not do what it should. Whatever it was, an event that was to be stored may or may not be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InboxError {
    /// Redis did not answer in time.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// Redis refused or could not be reached.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    /// The event is stored, but was not written to the disk in time.
    #[error("it was not on the server's disk in time")]
    NotOnDisk,
    /// The event is stored, but too few replicas have it.
    #[error("{had} replicas have it, {needed} must")]
    TooFewReplicas {
        /// How many must have it.
        needed: u8,
        /// How many said in time that they have it.
        had: u8,
    },
    /// Redis is not set up as the configuration demands.
    #[error("{0}")]
    Server(String),
}

impl Inbox {
    /// Connects, and makes sure that the server does what `config` demands.
    ///
    /// # Errors
    /// Where the server cannot be reached, does not keep events as it should, or holds another number of partitions.
    pub async fn connect(config: &config::Redis, store_timeout: Duration) -> Result<Self, InboxError> {
        let keys = Keys::new(&config.prefix, config.partitions);
        let retention = days(config.seen_retention_days);
        let needed = match config.durability {
            Durability::Fsync => Some(Where::Disk),
            Durability::Replicas(replicas) => Some(Where::Replicas(replicas)),
            Durability::Memory => None,
        };
        let demand = needed.map(|needed| Demand { needed, retention });
        let (durability, topology) = (config.durability, config.topology);
        let requirements =
            config.check_server.then_some(Requirements { durability, topology, patience: store_timeout });
        let inbox = Self {
            servers: Arc::new(Servers::connect(config, &keys, demand, requirements).await?),
            side: Side::Work,
            keys,
            retention,
            unhandled_retention: days(config.unhandled_retention_days),
            timeout: store_timeout,
            requirements,
        };
        if config.check_server {
            inbox.wait_until_fit().await?;
        }
        inbox.check_partitions(config.partitions).await?;
        Ok(inbox)
    }

    /// The same for the ingest, which stores over connections of its own: all of it in one runtime, of one thread.
    pub fn for_ingest(&self) -> Self {
        Self { side: Side::Ingest, ..self.clone() }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.keys.partitions()
    }

    /// Whether a server answers, and does what it should.
    ///
    /// # Errors
    /// Where none does.
    pub async fn ping(&self) -> Result<(), InboxError> {
        let mut answer = Ok(());
        for server in self.servers.all().values() {
            let ping = async {
                server.ensure_fit()?;
                self.bounded(redis::cmd("PING").exec_async(&mut server.connection())).await
            };
            answer = ping.await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    /// How many events wait in a partition, those being worked on included.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn depth(&self, partition: u32) -> Result<u64, InboxError> {
        let keys = self.keys.of_partition(partition);
        let mut commands = redis::pipe();
        for feature in Feature::ALL {
            commands.cmd("XLEN").arg(keys.inbox(feature));
        }
        let depths: [u64; 4] = self.bounded(commands.query_async(&mut self.connection(partition))).await?;
        Ok(depths.iter().sum())
    }

    /// Tries to become a partition's owner for `time_to_live`. None where somebody else is.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn acquire(&self, partition: u32, time_to_live: Duration) -> Result<Option<Lease>, InboxError> {
        Lease::acquire(self, partition, time_to_live).await
    }

    fn retention_millis(&self) -> u64 {
        u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX)
    }

    fn connection(&self, partition: u32) -> ConnectionManager {
        self.servers.of_partition(partition).connection()
    }

    /// A connection for the keys that belong to no partition.
    fn common(&self) -> ConnectionManager {
        self.servers.of_common().connection()
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, InboxError> {
        let answer = match timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(InboxError::Redis),
            Err(_) => {
                self.servers.replace_connections();
                Err(InboxError::Timeout(self.timeout))
            }
        };
        if answer.is_err() {
            self.servers.doubt();
        }
        answer
    }

    async fn check_partitions(&self, configured: u32) -> Result<(), InboxError> {
        let name = self.keys.partition_count();
        let get = async || -> Result<Option<String>, InboxError> {
            self.bounded(redis::cmd("GET").arg(&name).query_async(&mut self.common())).await
        };
        let mut stored = get().await?;
        if stored.is_none() {
            self.bounded(redis::cmd("SETNX").arg(&name).arg(configured).exec_async(&mut self.common())).await?;
            stored = get().await?;
        }
        let stored = stored.unwrap_or_default();
        if stored == configured.to_string() {
            return Ok(());
        }
        Err(InboxError::Server(format!(
            "`redis.partitions` is {configured}, but what Redis holds was stored in {stored} partitions: set it to \
             {stored}, or use another `redis.prefix`"
        )))
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// Whether a URL is one that the inbox can connect to. Says no more, since what is wrong with it could hold a password.
pub fn is_url(url: &str) -> bool {
    url.into_connection_info().is_ok()
}

impl InboxError {
    /// A short name for the reason, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::NotOnDisk => "disk",
            Self::TooFewReplicas { .. } => "replicas",
            Self::Server(_) => "server",
            Self::Redis(error) => match error.kind() {
                ErrorKind::Io => "unreachable",
                _ => "refused",
            },
        }
    }
}
