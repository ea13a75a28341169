//! Lists events, the one that changed last first.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant, SystemTime},
};

use super::{Event, Filter, Walk};
use crate::inbox::{Inbox, InboxError, Order, Position, Source, StreamId};

/// Some events, and where to continue.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The events. The one that changed last comes first.
    pub events: Vec<Event>,
    /// Where the next events begin; `None` if there are no more.
    pub next: Option<Cursor>,
    /// If the budget was used up: the time down to which the events were searched.
    pub searched_to: Option<SystemTime>,
}

/// How much one call may read. If few events match, it would otherwise read on to the oldest event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How long the call may read.
    pub time: Duration,
    /// How many entries it may read.
    pub entries: usize,
}

impl Budget {
    /// No limit.
    pub const UNLIMITED: Self = Self { time: Duration::MAX, entries: usize::MAX };
}

/// Where a list continues: after the last entry that the earlier one has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Position);

/// Returns the latest events that `filter` selects, up to `limit`, and continues an earlier list at
/// `cursor`. Reads about as much as it returns, unless few events match: then it reads on until
/// `budget` is used up.
///
/// # Errors
/// If Redis does not answer.
pub async fn list(
    inbox: &Inbox,
    filter: &Filter,
    cursor: Option<Cursor>,
    limit: usize,
    budget: Budget,
) -> Result<Listing, InboxError> {
    let began = Instant::now();
    let after = cursor.map(|cursor| cursor.0);
    let mut walk = Walk::new(inbox, filter, Order::NewestFirst, after, limit.saturating_add(1));
    let (mut events, mut last, mut read) = (Vec::new(), None, 0);
    while let Some(stored) = walk.next().await? {
        let selected = Event::of(&stored).filter(|event| filter.selects(event));
        if selected.is_some() && events.len() >= limit {
            return Ok(Listing { events, next: last.map(Cursor), searched_to: None });
        }
        events.extend(selected);
        last = Some(stored.position);
        read += 1;
        if read >= budget.entries || began.elapsed() >= budget.time {
            return Ok(Listing { events, next: last.map(Cursor), searched_to: Some(stored.position.id.added_at()) });
        }
    }
    Ok(Listing { events, next: None, searched_to: None })
}

/// Written as `<entry>-<partition>-<number of the stream>-<place in the entry>`.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { id, partition, source, place } = self.0;
        let number = Source::ALL.iter().position(|known| *known == source).unwrap_or_default();
        write!(f, "{id}-{partition}-{number}-{place}")
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut words = text.rsplitn(4, '-');
            let place = words.next()?.parse().ok()?;
            let source = *Source::ALL.get(words.next()?.parse::<usize>().ok()?)?;
            let partition = words.next()?.parse().ok()?;
            Some(Self(Position { id: StreamId::parse(words.next()?)?, partition, source, place }))
        };
        parse().ok_or("must be a cursor that an earlier list has returned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for source in Source::ALL {
            let id = StreamId::parse("1750588200000-3").unwrap();
            let cursor = Cursor(Position { id, partition: 15, source, place: 31 });
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "1-0", "1-0-3", "1-0-3-1", "1-0-3-7-0", "1-0--3-1-0", "a-0-3-1-0", "1-0-3-1-x"] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }
}
