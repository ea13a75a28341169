//! Reads a partition's inbox in order, and waits for more.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime},
};

use envelope::Feature;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{InboxError, Lease, stream::StreamEntry};
use crate::event::from_millis;

/// An entry's identifier: the feature whose stream it is in, and what Redis gives it there, which is the time in
/// milliseconds and a number among those of the same millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(Feature, u64, u64);

/// An event in the inbox that is not dealt with.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The entry's identifier; later entries have greater ones.
    pub id: EntryId,
    /// The event's body, as it was sent.
    pub body: Vec<u8>,
    /// When it was stored.
    pub received_at: SystemTime,
    /// Whether it never came, and is made up for.
    pub missed: bool,
    /// How often it was tried already.
    pub attempts: u32,
    /// Not to be tried before this.
    pub due: Option<SystemTime>,
}

/// Some entries of one feature, in their order.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Their feature.
    pub feature: Feature,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Reads one partition, each feature from its oldest entry on.
pub struct Reader {
    lease: Lease,
    connection: Option<MultiplexedConnection>,
    last: HashMap<Feature, EntryId>,
}

/// Before the oldest entry.
const BEGINNING: &str = "0";
/// A read that takes so much longer than it has patience has lost its connection without being told.
const STALLED: Duration = Duration::from_secs(4);

impl Reader {
    /// A reader of the partition that is owned.
    pub fn new(lease: Lease) -> Self {
        Self { lease, connection: None, last: HashMap::new() }
    }

    /// The next entries of these features, at most `most` of each; none where none came within `patience`.
    ///
    /// After an error the reader begins again with the oldest entries, so that nothing is passed over that a server gained
    /// or lost while it failed. The caller leaves out what it has, or had, already.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn next(
        &mut self,
        features: &[Feature],
        most: usize,
        patience: Duration,
    ) -> Result<Vec<Batch>, InboxError> {
        let read = match timeout(patience + STALLED, self.read(features, most, patience)).await {
            Ok(read) => read,
            Err(_) => Err(InboxError::Timeout(STALLED)),
        };
        if read.is_err() {
            self.lease.inbox().servers.doubt();
            self.connection = None;
            self.last.clear();
        }
        read
    }

    async fn read(&mut self, features: &[Feature], most: usize, patience: Duration) -> Result<Vec<Batch>, InboxError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.lease.server().dedicated_connection().await?),
        };
        let keys = self.lease.keys();
        let inboxes: Vec<_> = features.iter().map(|&feature| keys.inbox(feature)).collect();
        let last =
            features.iter().map(|feature| self.last.get(feature).map_or(BEGINNING.to_owned(), EntryId::to_string));
        #[cfg(feature = "mutations")]
        let last = last.map(crate::mutation::beginning);
        let last: Vec<_> = last.collect();
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(most);
        if !patience.is_zero() {
            command.arg("BLOCK").arg(patience.as_millis());
        }
        command.arg("STREAMS").arg(&inboxes).arg(&last);
        let streams: Vec<(String, Vec<StreamEntry>)> = command.query_async(connection).await?;
        let mut batches = Vec::new();
        for (key, entries) in streams {
            let named = features.iter().zip(&inboxes).find(|(_, inbox)| **inbox == key);
            let (Some((&feature, _)), Some(newest)) = (named, entries.last()) else { continue };
            self.last.insert(feature, EntryId::parse(feature, &newest.id));
            let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
            let tried: Vec<Option<String>> = connection.hmget(keys.attempts(feature), &ids).await?;
            let entries = entries.into_iter().zip(tried);
            let entries = entries.map(|(entry, tried)| Entry::read(feature, entry, tried.as_deref())).collect();
            batches.push(Batch { feature, entries });
        }
        Ok(batches)
    }
}

impl EntryId {
    fn parse(feature: Feature, id: &str) -> Self {
        let (time, number) = id.split_once('-').unwrap_or((id, "0"));
        Self(feature, time.parse().unwrap_or_default(), number.parse().unwrap_or_default())
    }

    /// When the entry was added, by the clock of Redis.
    pub fn added_at(self) -> SystemTime {
        from_millis(self.1)
    }

    /// The feature whose stream the entry is in.
    pub fn feature(self) -> Feature {
        self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.1, self.2)
    }
}

impl Entry {
    /// A field that is missing or damaged is empty: the worker then buries the entry, where it can be looked at.
    pub(super) fn read(feature: Feature, mut entry: StreamEntry, tried: Option<&str>) -> Self {
        let (attempts, due) = tried.and_then(|tried| tried.split_once(' ')).unwrap_or(("0", ""));
        Self {
            id: EntryId::parse(feature, &entry.id),
            body: entry.take("body").unwrap_or_default(),
            received_at: from_millis(entry.take("received").unwrap_or_default()),
            missed: entry.take("missed") == Some(1),
            attempts: attempts.parse().unwrap_or_default(),
            due: due.parse().ok().map(from_millis),
        }
    }
}
