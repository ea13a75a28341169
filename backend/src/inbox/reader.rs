//! Reads the entries of a partition in order, and waits for new ones.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime},
};

use envelope::{Feature, Rejection};
use redis::{AsyncCommands, aio::MultiplexedConnection};

use super::{
    Failures, InboxError, Lease,
    error::within,
    stream::{StreamEntry, StreamId},
};
use crate::{event::Event, time::from_millis, traces};

/// An entry's identifier within a partition: the feature whose stream holds the entry, and the
/// identifier that Redis assigned in that stream. Within a feature, later entries have greater
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    feature: Feature,
    id: StreamId,
}

/// An event in the inbox.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The entry's identifier.
    pub id: EntryId,
    /// The event's body, as it was received.
    pub body: Vec<u8>,
    /// When the backend received the event.
    pub received_at: SystemTime,
    /// Whether the event never arrived and was reconstructed from the Partner API.
    pub backfilled: bool,
    /// The number of attempts so far.
    pub attempts: u32,
    /// When the next attempt is due, if the event waits for a retry.
    pub due: Option<SystemTime>,
    /// The attempts that have failed.
    pub failures: Failures,
    /// If the event is traced: the context of the span `store`.
    pub trace: Option<String>,
    /// Whether that trace is over, because the event was a dead letter.
    pub is_trace_over: bool,
}

/// Consecutive entries of one feature.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The feature of the entries.
    pub feature: Feature,
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
}

/// Reads the entries of one partition, for each feature from the oldest one onwards.
pub struct Reader {
    lease: Lease,
    connection: Option<MultiplexedConnection>,
    last: HashMap<Feature, EntryId>,
}

/// An identifier before that of any entry.
const BEGINNING: &str = "0";
/// Within what time after its arrival the first attempt of an event continues its trace.
const AT_ONCE: Duration = Duration::from_secs(60);
/// How long an answer may take beyond the time for which Redis blocks. After that, the connection
/// is assumed to be dead.
const STALLED: Duration = Duration::from_secs(4);

impl Reader {
    /// Returns a reader of the partition that `lease` owns.
    pub fn new(lease: Lease) -> Self {
        Self { lease, connection: None, last: HashMap::new() }
    }

    /// Returns the next entries of `features`, at most `limit` of each feature. If there are none,
    /// waits up to `block` for an entry, and returns nothing if none arrives.
    ///
    /// After an error the reader starts again at the oldest entry, because the server may have lost
    /// or gained entries meanwhile. The caller skips the entries that it has already received.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn next(
        &mut self,
        features: &[Feature],
        limit: usize,
        block: Duration,
    ) -> Result<Vec<Batch>, InboxError> {
        let read = within(block + STALLED, self.read(features, limit, block)).await;
        if read.is_err() {
            self.lease.inbox().servers.refresh_layout_soon();
            self.connection = None;
            self.last.clear();
        }
        read
    }

    async fn read(&mut self, features: &[Feature], limit: usize, block: Duration) -> Result<Vec<Batch>, InboxError> {
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
        command.arg("COUNT").arg(limit);
        // `BLOCK 0` would wait without a limit.
        if !block.is_zero() {
            command.arg("BLOCK").arg(block.as_millis());
        }
        command.arg("STREAMS").arg(&inboxes).arg(&last);
        let streams: Vec<(String, Vec<StreamEntry>)> = command.query_async(connection).await?;
        let mut batches = Vec::new();
        for (key, entries) in streams {
            let named = features.iter().zip(&inboxes).find(|(_, inbox)| **inbox == key);
            let (Some((&feature, _)), Some(newest)) = (named, entries.last()) else { continue };
            self.last.insert(feature, EntryId::parse(feature, &newest.id));
            let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
            let attempts: Vec<Option<String>> = connection.hmget(keys.attempts(feature), &ids).await?;
            let entries = entries.into_iter().zip(attempts);
            let entries = entries.map(|(entry, attempts)| Entry::read(feature, entry, attempts.as_deref())).collect();
            batches.push(Batch { feature, entries });
        }
        Ok(batches)
    }
}

impl EntryId {
    pub(super) fn parse(feature: Feature, id: &str) -> Self {
        Self { feature, id: StreamId::parse(id).unwrap_or_default() }
    }

    /// Returns an identifier for a test.
    #[cfg(test)]
    pub(crate) fn new(feature: Feature, added_ms: u64, sequence: u64) -> Self {
        Self { feature, id: StreamId::new(added_ms, sequence) }
    }

    /// Returns when the entry was added, by the clock of Redis.
    pub fn added_at(self) -> SystemTime {
        self.id.added_at()
    }

    /// Returns the feature whose stream holds the entry.
    pub fn feature(self) -> Feature {
        self.feature
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl Entry {
    /// Parses the body.
    ///
    /// # Errors
    /// Returns a [`Rejection`] if the body is not an event, because another version of the backend
    /// or another program stored it.
    pub fn event(&self) -> Result<Event, Rejection> {
        let event = Event::parse(&self.body, self.received_at)?;
        Ok(Event { backfilled: self.backfilled, ..event })
    }

    /// Decodes an entry and its field in the `attempts` hash, which is `<attempts> <due> <failures>`.
    /// Format 0 has no failures.
    ///
    /// A field that is missing or damaged counts as empty. The worker then dead-letters the entry,
    /// so that an operator can inspect it.
    pub(super) fn read(feature: Feature, mut entry: StreamEntry, attempts: Option<&str>) -> Self {
        let (attempts, rest) = attempts.and_then(|attempts| attempts.split_once(' ')).unwrap_or(("0", ""));
        let (due, failures) = rest.split_once(' ').unwrap_or((rest, ""));
        let trace: Option<String> = entry.take("trace");
        Self {
            id: EntryId::parse(feature, &entry.id),
            body: entry.take("body").unwrap_or_default(),
            received_at: from_millis(entry.take("received").unwrap_or_default()),
            // The field has a name that is older than the term "backfilled".
            backfilled: entry.take("missed") == Some(1),
            attempts: attempts.parse().unwrap_or_default(),
            due: due.parse().ok().map(from_millis),
            failures: Failures::parse(failures),
            is_trace_over: trace.is_none(),
            trace: trace.or_else(|| entry.take("traced")),
        }
    }

    /// Returns the identifier of the event's trace, if it is traced.
    pub fn trace_id(&self) -> Option<&str> {
        traces::trace_id(self.trace.as_deref()?)
    }

    /// Returns how an attempt that begins now belongs to the trace of the event. Only the first one
    /// continues it, if it follows at once: an attempt is due at a certain time if there was one before.
    pub fn origin(&self, now: SystemTime) -> Option<traces::Origin<'_>> {
        let context = self.trace.as_deref()?;
        let follows = now.duration_since(self.id.added_at()).unwrap_or_default() < AT_ONCE;
        let is_first = !self.is_trace_over && self.due.is_none() && follows;
        Some(if is_first { traces::Origin::Parent(context) } else { traces::Origin::Link(context) })
    }
}

#[cfg(test)]
mod tests {
    use redis::{FromRedisValue, Value};

    use super::*;

    fn entry(id: &str, fields: &[(&str, &str)], attempts: Option<&str>) -> Entry {
        let text = |text: &str| Value::BulkString(text.into());
        let fields = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        let entry = StreamEntry::from_redis_value(Value::Array(vec![text(id), Value::Array(fields)])).unwrap();
        Entry::read(Feature::Forensics, entry, attempts)
    }

    #[test]
    fn an_entry_is_decoded_from_its_fields() {
        let read = entry("1750588200000-3", &[("body", "{}"), ("received", "1750588199999"), ("missed", "1")], None);
        assert_eq!(read.id, EntryId::new(Feature::Forensics, 1_750_588_200_000, 3));
        assert_eq!(read.id.to_string(), "1750588200000-3");
        assert_eq!(read.id.added_at(), from_millis(1_750_588_200_000));
        assert_eq!(read.body, b"{}");
        assert_eq!(read.received_at, from_millis(1_750_588_199_999));
        assert!(read.backfilled);
    }

    #[test]
    fn missing_and_damaged_fields_count_as_empty() {
        for fields in [&[][..], &[("received", "yesterday"), ("missed", "perhaps")]] {
            let read = entry("1-0", fields, None);
            assert!(read.body.is_empty() && !read.backfilled);
            assert_eq!(read.received_at, from_millis(0));
        }
    }

    #[test]
    fn the_number_of_attempts_and_the_due_time_are_decoded() {
        for (stored, attempts, due) in [
            (None, 0, None),
            (Some("3 1750588200000"), 3, Some(from_millis(1_750_588_200_000))),
            (Some("0 7"), 0, Some(from_millis(7))),
            (Some("3 1750588200000 more"), 3, Some(from_millis(1_750_588_200_000))),
            (Some("3"), 0, None),
            (Some("3 soon"), 3, None),
            (Some("many 7"), 0, Some(from_millis(7))),
        ] {
            let read = entry("1-0", &[], stored);
            assert_eq!((read.attempts, read.due), (attempts, due), "{stored:?}");
        }
    }

    #[test]
    fn only_the_first_attempt_continues_the_trace() {
        use traces::Origin::{Link, Parent};
        for (fields, stored, expected) in [
            (&[("trace", "a")][..], None, Some(Parent("a"))),
            (&[("trace", "a")], Some("1 7"), Some(Link("a"))),
            (&[("trace", "a")], Some("0 7 deferred"), Some(Link("a"))),
            (&[("traced", "a")], None, Some(Link("a"))),
            (&[("traced", "a"), ("trace", "b")], None, Some(Parent("b"))),
            (&[], Some("1 7"), None),
        ] {
            assert_eq!(entry("1-0", fields, stored).origin(from_millis(1)), expected, "{fields:?} {stored:?}");
        }
        let entry = entry("1-0", &[("trace", "a")], None);
        for (now, expected) in [(0, Parent("a")), (60_000, Parent("a")), (60_001, Link("a"))] {
            assert_eq!(entry.origin(from_millis(now)), Some(expected), "{now}");
        }
    }

    #[test]
    fn identifiers_of_a_feature_are_ordered_as_in_redis() {
        let id = |added_ms, sequence| EntryId::new(Feature::Extraction, added_ms, sequence);
        assert!(id(1, 9) < id(2, 0) && id(2, 0) < id(2, 1) && id(9, 0) < id(10, 0));
    }
}
