//! Reads several streams as if they were one, in the order of their entries' times.

use std::{collections::VecDeque, time::SystemTime};

use super::Filter;
use crate::inbox::{Inbox, InboxError, Order, Position, Source, Span, Stored};

/// A lazy merge of streams: reads a page of each, and the next page of a stream only once the
/// previous one is used up.
pub struct Walk<'a> {
    inbox: &'a Inbox,
    order: Order,
    page: usize,
    /// What comes up to this position is left out.
    after: Option<Position>,
    streams: Vec<Stream>,
}

struct Stream {
    partition: u32,
    source: Source,
    /// What has been read and not yet returned.
    ahead: VecDeque<Stored>,
    /// What is still to be read.
    rest: Span,
    /// Whether all of it has been read, and what was added since is ignored.
    is_read: bool,
}

/// Limits of the number of entries that are read from one stream at a time.
const MIN_PAGE: usize = 10;
const MAX_PAGE: usize = 500;
/// About how many entries of all streams are in memory. An entry of the history may hold 32 records.
const MAX_AHEAD: usize = 2_000;

impl<'a> Walk<'a> {
    /// Returns a walk through the streams that can hold what `filter` selects, for a caller that
    /// needs `wanted` entries. Begins after the position `after`.
    pub fn new(inbox: &'a Inbox, filter: &Filter, order: Order, after: Option<Position>, wanted: usize) -> Self {
        let mut walk = Self::through(inbox, &filter.partitions(inbox), filter.sources(), order, wanted);
        for stream in &mut walk.streams {
            stream.rest = after.map_or(filter.span(), |after| filter.span().from(after.id, order));
        }
        walk.after = after;
        walk
    }

    /// Returns a walk through all entries of these streams.
    pub fn through(
        inbox: &'a Inbox,
        partitions: &[u32],
        sources: impl Iterator<Item = Source> + Clone,
        order: Order,
        wanted: usize,
    ) -> Self {
        let mut streams = Vec::new();
        for &partition in partitions {
            streams.extend(sources.clone().map(|source| Stream::new(partition, source)));
        }
        let most = (MAX_AHEAD / streams.len().max(1)).clamp(MIN_PAGE, MAX_PAGE);
        Self { inbox, order, page: wanted.clamp(MIN_PAGE, most), after: None, streams }
    }

    /// Returns the next entry, or `None` after the last one.
    ///
    /// # Errors
    /// If Redis does not answer. The walk can be continued.
    pub async fn next(&mut self) -> Result<Option<Stored>, InboxError> {
        self.read_ahead().await?;
        let heads = self.streams.iter().enumerate();
        let heads = heads.filter_map(|(place, stream)| Some((stream.ahead.front()?.position, place)));
        let first = match self.order {
            Order::NewestFirst => heads.max(),
            Order::OldestFirst => heads.min(),
        };
        Ok(first.and_then(|(_, place)| self.streams[place].ahead.pop_front()))
    }

    /// Leaves out what was added before `since`.
    pub fn skip_before(&mut self, since: SystemTime) {
        for stream in &mut self.streams {
            stream.rest = Span::between(Some(since), None);
        }
    }

    /// Leaves out everything that is in the streams now. For a walk in the order
    /// [`Order::OldestFirst`].
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn skip_all(&mut self) -> Result<(), InboxError> {
        for stream in &mut self.streams {
            let whole = [(stream.source, Span::between(None, None))];
            let pages = self.inbox.read(stream.partition, &whole, Order::NewestFirst, 1).await?;
            let newest = pages.iter().flat_map(|page| &page.entries).map(|stored| stored.position.id).max();
            if let Some(newest) = newest {
                stream.rest = stream.rest.clone().after(newest, Order::OldestFirst);
            }
        }
        Ok(())
    }

    /// Continues a walk that has come to the end, with the entries that were added since.
    pub fn resume(&mut self) {
        for stream in &mut self.streams {
            stream.is_read = false;
        }
    }

    /// Makes sure that the next entry of each stream is in memory. Streams of one partition are read
    /// with one call.
    async fn read_ahead(&mut self) -> Result<(), InboxError> {
        for streams in self.streams.chunk_by_mut(|one, other| one.partition == other.partition) {
            // A page may consist of damaged entries only.
            loop {
                let mut empty: Vec<_> =
                    streams.iter_mut().filter(|stream| stream.ahead.is_empty() && !stream.is_read).collect();
                let wanted: Vec<_> = empty.iter().map(|stream| (stream.source, stream.rest.clone())).collect();
                let Some(partition) = empty.first().map(|stream| stream.partition) else { break };
                let pages = self.inbox.read(partition, &wanted, self.order, self.page).await?;
                for (stream, page) in empty.iter_mut().zip(pages) {
                    let is_left_out = |stored: &Stored| !comes_after(stored.position, self.after, self.order);
                    stream.ahead.extend(page.entries.into_iter().skip_while(is_left_out));
                    stream.rest = page.rest;
                    stream.is_read = page.is_last;
                }
            }
        }
        Ok(())
    }
}

impl Stream {
    fn new(partition: u32, source: Source) -> Self {
        Self { partition, source, ahead: VecDeque::new(), rest: Span::between(None, None), is_read: false }
    }
}

/// Returns whether an entry comes after a position in the order of all streams.
fn comes_after(position: Position, after: Option<Position>, order: Order) -> bool {
    after.is_none_or(|after| match order {
        Order::NewestFirst => position < after,
        Order::OldestFirst => position > after,
    })
}
