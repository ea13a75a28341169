//! The inbox: Redis holds each event from before it is acknowledged until it is completed.
//!
//! # The data structures
//! A hash of the case's identifier assigns each case to one of a fixed number of partitions. All
//! keys of a partition share a hash tag, so one script can change several of them, and a Redis
//! Cluster can spread the partitions. [`keys`] names them all:
//!
//! - **seen**, a string for each event, with an expiry (`redis.seen_retention_days`), which records
//!   that the event was received. Its value is the hash of the event's body. For a dead letter it
//!   also names the entry, so that a redelivery can revive it.
//! - **inbox**, a stream for each feature: the events that are neither completed nor dead letters,
//!   in order of arrival. The stream itself is the list of pending events: a backend that takes
//!   over a partition reads it from the start. No second list says who works on what, so none can
//!   disagree with the stream.
//! - **case**, a hash for each case, with an expiry: how many events each feature has received
//!   ([`Expected`]).
//! - **late**, a string for each feature of a case, with an expiry: which events were backfilled
//!   and may still arrive.
//! - **attempts**, a hash for each stream: how many attempts an event has had, when the next one is
//!   due, and how the attempts have failed.
//! - **history**, a stream: what became of the events, for `history.retention_days` ([`history`]).
//! - **dead**, a stream: the dead letters, with their error, until they are replayed, are revived
//!   or expire.
//! - **quarantine**, a stream: undocumented events, until they are readmitted ([`quarantine`]) or
//!   expire.
//! - **lease**, a string: the fencing token of the partition's owner. Every write of an owner
//!   compares it, so a backend that has lost its lease without noticing changes nothing. The token
//!   is random: a counter could be set back by a failover to a replica, and grant the same token
//!   twice.
//! - **format**, a hash: the format of what the partition holds. A backend uses a partition only if
//!   it knows the format that the partition requires ([`format`]).
//!
//! A few keys belong to no partition. The most important are **members**, the working backends,
//! which share the partitions among themselves ([`Attendance`](members::Attendance)); **paused**,
//! the paused features ([`Paused`]); and **partitions**, the number of partitions. [`servers`]
//! knows which server holds which partition.
//!
//! Keys that must agree are changed by one script. Redis runs a script atomically and writes it to
//! its append-only file as a whole. But if a command in a script fails, Redis does not undo the
//! earlier ones, so each script orders its commands such that a partial run loses no event.

use std::{sync::Arc, time::Duration};

use envelope::CaseId;
use redis::{IntoConnectionInfo, RedisError, aio::ConnectionManager};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

mod accept;
mod arrival;
mod cases;
mod contents;
mod dead_letter_counts;
mod dead_letters;
mod error;
mod examination;
mod failures;
mod forget;
mod format;
mod history;
pub mod keys;
mod lease;
mod members;
#[cfg(feature = "mutations")]
mod mutations;
mod pauses;
mod quarantine;
mod reader;
mod record;
mod redelivered;
mod scripts;
mod servers;
mod stored;
mod stream;

pub use accept::Accepted;
pub use arrival::{Arrival, Origin, Place};
pub use cases::{Comparison, Expected, MissingEvents};
pub use contents::Contents;
pub use dead_letter_counts::DeadLetterCounts;
pub use dead_letters::DeadLetter;
pub use error::InboxError;
pub use examination::{Backlog, Examination, Ownership, ServerInfo};
pub use failures::{Failure, Failures};
pub use forget::{Erased, Erasure};
pub use history::Handled;
pub use lease::{Lease, LeaseError, LeaseLost};
#[cfg(test)]
pub(crate) use members::Attendance;
pub use pauses::Paused;
pub use quarantine::{Quarantined, Readmission};
pub use reader::{Batch, Entry, EntryId, Reader};
pub use record::{Change, Delivered, LastError, Record};
pub use redelivered::Redelivered;
pub use stored::{Kept, Order, Position, Source, Span, Stored};
pub use stream::StreamId;

use error::within;
use format::User;
use history::Limits;
use keys::Keys;
use servers::{Servers, Side};

/// The inbox. Cloning it is cheap.
#[derive(Clone)]
pub struct Inbox {
    servers: Arc<Servers>,
    side: Side,
    keys: Keys,
    retention: Duration,
    unhandled_retention: Duration,
    history: Limits,
    timeout: Duration,
}

impl Inbox {
    /// Connects a backend to the servers, and makes sure that they meet the requirements of
    /// `config`. Raises the format of every partition to this version's.
    ///
    /// # Errors
    /// If a server cannot be reached, does not keep events as required, or holds events in a format
    /// that this version must not use or in another number of partitions.
    pub async fn connect(config: &Config) -> Result<Self, InboxError> {
        Self::connect_as(User::Backend, config).await
    }

    /// Does the same for a command, which leaves the formats as they are.
    ///
    /// # Errors
    /// Like [`Self::connect`]; also if this version writes what the running backends may not be
    /// able to read.
    pub async fn connect_command(config: &Config) -> Result<Self, InboxError> {
        Self::connect_as(User::Command, config).await
    }

    async fn connect_as(user: User, config: &Config) -> Result<Self, InboxError> {
        let inbox = Self::reach(user, config, config.ingest.store_timeout).await?;
        // For a backend, `ensure_fit` writes the format of each configured partition, so a wrong number
        // of them has to be noticed first. Any other error can wait: an unfit server explains it better.
        if let Err(error @ InboxError::Partitions { .. }) = inbox.ensure_same_partitions().await {
            return Err(error);
        }
        inbox.servers.ensure_fit().await?;
        if !inbox.ensure_same_partitions().await? {
            inbox.store_partitions().await?;
        }
        Ok(inbox)
    }

    /// Connects to the servers, whether or not they are fit, and changes nothing.
    async fn reach(user: User, config: &Config, timeout: Duration) -> Result<Self, InboxError> {
        let Config { redis: config, history, .. } = config;
        let keys = Keys::new(&config.prefix, config.partitions);
        let retention = days(config.seen_retention_days);
        Ok(Self {
            servers: Arc::new(Servers::connect(config, &keys, user, timeout, retention).await?),
            side: Side::Work,
            keys,
            retention,
            unhandled_retention: days(config.unhandled_retention_days),
            history: Limits::new(history, config.partitions),
            timeout,
        })
    }

    /// Returns the inbox for the ingest, which stores events over connections of its own. Use it in
    /// one runtime with a single thread.
    pub fn for_ingest(&self) -> Self {
        Self { side: Side::Ingest, ..self.clone() }
    }

    /// Keeps asking which server holds which partition, and whether each server is fit, until
    /// `shutdown` is cancelled. No event is stored on an unfit server.
    pub async fn watch_servers(self, shutdown: CancellationToken) {
        self.servers.watch(&shutdown).await;
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> u32 {
        self.keys.partitions()
    }

    /// Returns the partition that holds the events of a case.
    pub fn partition_of(&self, case: &CaseId<'_>) -> u32 {
        self.keys.partition_of(case.as_str())
    }

    /// Returns whether the history records what becomes of events (`history.enabled`).
    pub fn has_history(&self) -> bool {
        self.history.limit > 0
    }

    /// Makes sure that at least one server is fit and answers.
    ///
    /// # Errors
    /// If no server is fit and answers. Returns the error of the last server:
    /// [`InboxError::Unfit`], or the reason why it does not answer.
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

    /// Returns whether a server holds a newer format that excludes this backend.
    pub fn is_excluded(&self) -> bool {
        self.servers.all().values().any(|server| server.excludes())
    }

    /// Tries to acquire the lease on a partition for `time_to_live`. Returns `None` if the
    /// partition has an owner, or a format that this backend must not use.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn acquire(&self, partition: u32, time_to_live: Duration) -> Result<Option<Lease>, InboxError> {
        Lease::acquire(self, partition, time_to_live).await
    }

    fn connection(&self, partition: u32) -> ConnectionManager {
        self.servers.of_partition(partition).connection()
    }

    /// Returns a connection for the keys that belong to no partition.
    fn common(&self) -> ConnectionManager {
        self.servers.of_common().connection()
    }

    /// Waits for a call's answer, but not longer than `ingest.store_timeout_ms`.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, InboxError> {
        let answer = within(self.timeout, call).await;
        if let Err(error) = &answer {
            if let InboxError::Timeout(_) = error {
                self.servers.replace_connections();
            }
            self.servers.refresh_layout_soon();
        }
        answer
    }

    /// Stores the number of partitions, unless another backend has been faster.
    async fn store_partitions(&self) -> Result<(), InboxError> {
        let mut set = redis::cmd("SETNX");
        set.arg(self.keys.partition_count()).arg(self.keys.partitions());
        self.bounded(set.exec_async(&mut self.common())).await?;
        self.ensure_same_partitions().await.map(drop)
    }

    /// Makes sure that Redis holds no events in another number of partitions. Returns whether it
    /// holds the number at all.
    async fn ensure_same_partitions(&self) -> Result<bool, InboxError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.partition_count());
        let stored: Option<String> = self.bounded(get.query_async(&mut self.common())).await?;
        let configured = self.keys.partitions();
        match stored {
            Some(stored) if stored != configured.to_string() => Err(InboxError::Partitions { configured, stored }),
            stored => Ok(stored.is_some()),
        }
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// Returns whether the inbox can connect to this URL. Does not say what is wrong with it, since the
/// URL could contain a password.
pub fn is_url(url: &str) -> bool {
    url.into_connection_info().is_ok()
}
