//! Reads a partition's inbox in order, and waits for more.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime},
};

use redis::{
    AsyncCommands, FromRedisValue,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};
use tokio::time::timeout;

use super::{InboxError, Lease};
use crate::event::from_millis;

/// An entry's identifier as Redis gives it: the time in milliseconds, and a number among those of the same millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryId(u64, u64);

/// An event in the inbox that is not dealt with.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The entry's identifier; later entries have greater ones.
    pub id: EntryId,
    /// The event's body, as it was sent.
    pub body: Vec<u8>,
    /// When it was stored.
    pub received_at: SystemTime,
    /// How often it was tried already.
    pub attempts: u32,
    /// Not to be tried before this.
    pub due: Option<SystemTime>,
}

/// Some entries, in their order.
pub type Batch = Vec<Entry>;

/// Reads one partition, from its oldest entry on.
pub struct Reader {
    lease: Lease,
    connection: Option<MultiplexedConnection>,
    last: EntryId,
}

/// How long one read waits for an entry.
const BLOCK: Duration = Duration::from_millis(1_000);
/// After this a read that waits has lost its connection without being told.
const STALLED: Duration = Duration::from_secs(5);

impl Reader {
    /// A reader of the partition that is owned.
    pub fn new(lease: Lease) -> Self {
        Self { lease, connection: None, last: EntryId::default() }
    }

    /// The next entries, at most `most` of them; none where none came for a second.
    ///
    /// After an error the reader begins again with the oldest entry, so that nothing is passed over that a server gained
    /// or lost while it failed. The caller leaves out what it has, or had, already.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn next(&mut self, most: usize) -> Result<Batch, InboxError> {
        let read = match timeout(STALLED, self.read(most)).await {
            Ok(read) => read,
            Err(_) => Err(InboxError::Timeout(STALLED)),
        };
        if read.is_err() {
            self.connection = None;
            self.last = EntryId::default();
        }
        read
    }

    async fn read(&mut self, most: usize) -> Result<Batch, InboxError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.lease.inbox().dedicated_connection().await?),
        };
        let options = StreamReadOptions::default().count(most).block(BLOCK.as_millis() as usize);
        let inbox = self.lease.keys().inbox();
        let reply: Option<StreamReadReply> =
            connection.xread_options(&[inbox], &[self.last.to_string()], &options).await?;
        let entries: Vec<_> = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids).collect();
        let Some(newest) = entries.last() else { return Ok(Batch::new()) };
        self.last = EntryId::parse(&newest.id);

        let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let tried: Vec<Option<String>> = connection.hmget(self.lease.keys().attempts(), &ids).await?;
        Ok(entries.into_iter().zip(tried).map(|(entry, tried)| Entry::read(entry, tried.as_deref())).collect())
    }
}

impl EntryId {
    fn parse(id: &str) -> Self {
        let (time, number) = id.split_once('-').unwrap_or((id, "0"));
        Self(time.parse().unwrap_or_default(), number.parse().unwrap_or_default())
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Entry {
    /// A field that is missing or damaged is empty: the worker then buries the entry, where it can be looked at.
    fn read(stream_entry: StreamId, tried: Option<&str>) -> Self {
        let StreamId { id, map, .. } = stream_entry;
        let id = EntryId::parse(&id);
        let (attempts, due) = tried.and_then(|tried| tried.split_once(' ')).unwrap_or(("0", ""));
        Self {
            id,
            body: field(&map, "body").unwrap_or_default(),
            received_at: from_millis(field(&map, "received").unwrap_or_default()),
            attempts: attempts.parse().unwrap_or_default(),
            due: due.parse().ok().map(from_millis),
        }
    }
}

/// A field of a stream's entry, where it is there and of that type.
pub(super) fn field<T: FromRedisValue>(map: &HashMap<String, redis::Value>, name: &str) -> Option<T> {
    T::from_redis_value(map.get(name)?.clone()).ok()
}
