//! Reads what the streams of a partition hold, in pages and in either order.

use std::time::SystemTime;

use envelope::{Envelope, Feature};

use super::{DeadLetter, Entry, Inbox, InboxError, Quarantined, Record, StreamId, stream::StreamEntry};
use crate::time::to_millis;

/// A stream of a partition that holds events, or records of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The events of a feature that are neither completed nor dead letters.
    Inbox(Feature),
    /// The dead letters.
    Dead,
    /// The quarantine.
    Quarantine,
    /// The history.
    History,
}

/// Where an entry is: its identifier, its partition and its stream. The order is that of the
/// entries' times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The identifier of the entry in its stream.
    pub id: StreamId,
    /// The partition.
    pub partition: u32,
    /// The stream.
    pub source: Source,
    /// The place of a record among those of its entry, from 0.
    pub place: usize,
}

/// An entry of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where the entry is.
    pub position: Position,
    /// What it holds.
    pub what: Kept,
}

/// What an entry holds.
#[derive(Debug, Clone)]
pub enum Kept {
    /// An event in the inbox, with its key.
    Pending(String, Entry),
    /// A dead letter.
    Dead(DeadLetter),
    /// An event in quarantine.
    Quarantined(Quarantined),
    /// A record of the history.
    Record(Record),
}

/// The order in which streams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The latest entry first.
    NewestFirst,
    /// The oldest entry first.
    OldestFirst,
}

/// The part of a stream that is still to be read, in the notation of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    start: String,
    end: String,
}

/// Some of a stream's entries.
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries, in the order that was asked for. Damaged ones are left out.
    pub entries: Vec<Stored>,
    /// The part of the stream that comes after them.
    pub rest: Span,
    /// Whether that part was empty.
    pub is_last: bool,
}

impl Source {
    /// All streams of a partition. An event that moves while they are read in this order is seen at
    /// least once, because its record is written with its last move.
    pub const ALL: [Self; 7] = [
        Self::Inbox(Feature::Classification),
        Self::Inbox(Feature::Extraction),
        Self::Inbox(Feature::Forensics),
        Self::Inbox(Feature::Translation),
        Self::Dead,
        Self::Quarantine,
        Self::History,
    ];
}

impl Kept {
    /// Returns the event's key.
    pub fn key(&self) -> &str {
        match self {
            Self::Pending(key, _) => key,
            Self::Dead(letter) => &letter.key,
            Self::Quarantined(event) => &event.key,
            Self::Record(record) => &record.key,
        }
    }
}

impl Span {
    /// Returns the entries that were added at `since` or later, and before `until`.
    pub fn between(since: Option<SystemTime>, until: Option<SystemTime>) -> Self {
        let start = since.map_or("-".to_owned(), |since| to_millis(since).to_string());
        // Redis rejects "(0-0", before which nothing can be.
        let end = until.map_or("+".to_owned(), |until| format!("({}-0", to_millis(until).max(1)));
        Self { start, end }
    }

    /// Leaves out the entries up to and including `id`.
    #[must_use]
    pub fn after(self, id: StreamId, order: Order) -> Self {
        match order {
            Order::NewestFirst => Self { end: format!("({id}"), ..self },
            Order::OldestFirst => Self { start: format!("({id}"), ..self },
        }
    }

    /// Leaves out the entries before `id`.
    #[must_use]
    pub fn from(self, id: StreamId, order: Order) -> Self {
        match order {
            Order::NewestFirst => Self { end: id.to_string(), ..self },
            Order::OldestFirst => Self { start: id.to_string(), ..self },
        }
    }
}

impl Inbox {
    /// Returns for each of the streams, which belong to one partition, up to `limit` entries.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn read(
        &self,
        partition: u32,
        streams: &[(Source, Span)],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Page>, InboxError> {
        let keys = self.keys.of_partition(partition);
        let mut connection = self.connection(partition);
        let mut commands = redis::pipe();
        for (source, span) in streams {
            let key = match source {
                Source::Inbox(feature) => keys.inbox(*feature),
                Source::Dead => keys.dead(),
                Source::Quarantine => keys.quarantine(),
                Source::History => keys.history(),
            };
            match order {
                Order::NewestFirst => commands.cmd("XREVRANGE").arg(key).arg(&span.end).arg(&span.start),
                Order::OldestFirst => commands.cmd("XRANGE").arg(key).arg(&span.start).arg(&span.end),
            }
            .arg("COUNT")
            .arg(limit);
        }
        let found: Vec<Vec<StreamEntry>> = self.bounded(commands.query_async(&mut connection)).await?;
        let mut commands = redis::pipe();
        for ((source, _), entries) in streams.iter().zip(&found) {
            if let (Source::Inbox(feature), false) = (source, entries.is_empty()) {
                let ids: Vec<_> = entries.iter().map(|entry| &entry.id).collect();
                commands.cmd("HMGET").arg(keys.attempts(*feature)).arg(ids);
            }
        }
        let attempts: Vec<Vec<Option<String>>> =
            if commands.is_empty() { Vec::new() } else { self.bounded(commands.query_async(&mut connection)).await? };
        let mut attempts = attempts.into_iter().flatten();
        let pages = streams.iter().zip(found).map(|((source, span), entries)| {
            let last = entries.last().and_then(|last| StreamId::parse(&last.id));
            let rest = last.map_or(span.clone(), |last| span.clone().after(last, order));
            let is_last = entries.len() < limit;
            let entries = entries.into_iter().flat_map(|entry| {
                let attempts = if let Source::Inbox(_) = source { attempts.next().flatten() } else { None };
                let mut stored = Stored::read(partition, *source, entry, attempts.as_deref());
                if order == Order::NewestFirst {
                    stored.reverse();
                }
                stored
            });
            Page { entries: entries.collect(), rest, is_last }
        });
        Ok(pages.collect())
    }
}

impl Stored {
    /// Decodes an entry, which has several records in the history. Leaves out what is damaged.
    fn read(partition: u32, source: Source, mut entry: StreamEntry, attempts: Option<&str>) -> Vec<Self> {
        let Some(id) = StreamId::parse(&entry.id) else { return Vec::new() };
        let position = Position { id, partition, source, place: 0 };
        let what = match source {
            Source::Inbox(feature) => {
                let key: Option<String> = entry.take("key");
                let entry = Entry::read(feature, entry, attempts);
                let key = key.or_else(|| Some(Envelope::parse(&entry.body).ok()?.key().to_string()));
                Kept::Pending(key.unwrap_or_default(), entry)
            }
            Source::Dead => Kept::Dead(DeadLetter::read(partition, entry)),
            Source::Quarantine => Kept::Quarantined(Quarantined::read(partition, entry)),
            Source::History => {
                let records = Record::read_all(&mut entry).into_iter().enumerate();
                let stored = |(place, record)| {
                    Some(Self { position: Position { place, ..position }, what: Kept::Record(record?) })
                };
                return records.filter_map(stored).collect();
            }
        };
        vec![Self { position, what }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_millis;

    #[test]
    fn a_span_is_narrowed_from_the_end_that_was_read() {
        let span = Span::between(Some(from_millis(5)), Some(from_millis(9)));
        let id = StreamId::parse("7-1").unwrap();
        for (narrowed, start, end) in [
            (span.clone(), "5", "(9-0"),
            (span.clone().after(id, Order::NewestFirst), "5", "(7-1"),
            (span.clone().after(id, Order::OldestFirst), "(7-1", "(9-0"),
            (span.clone().from(id, Order::NewestFirst), "5", "7-1"),
            (span.from(id, Order::OldestFirst), "7-1", "(9-0"),
            (Span::between(None, None), "-", "+"),
            (Span::between(None, Some(from_millis(0))), "-", "(1-0"),
        ] {
            assert_eq!((narrowed.start.as_str(), narrowed.end.as_str()), (start, end));
        }
    }
}
