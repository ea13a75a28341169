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

impl<'a> Walk<'a> {
    /// Returns a walk through the streams that can hold what `filter` selects, for a caller that
    /// needs `wanted` entries. Begins after the position `after`.
    pub fn new(inbox: &'a Inbox, filter: &Filter, order: Order, after: Option<Position>, wanted: usize) -> Self {
        let mut walk = Self::through(inbox, &filter.partitions(inbox), filter.sources(), order, wanted);
        for stream in &mut walk.streams {
            stream.rest = begin(filter.span(), (stream.partition, stream.source), order, after);
        }
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
        Self { inbox, order, page: wanted.clamp(MIN_PAGE, MAX_PAGE), streams }
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
                    stream.ahead.extend(page.entries);
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

/// Returns the part of a stream that comes after a position in the order of all streams.
fn begin(span: Span, stream: (u32, Source), order: Order, after: Option<Position>) -> Span {
    let Some(Position { id, partition, source }) = after else { return span };
    let is_ahead = match order {
        Order::NewestFirst => stream < (partition, source),
        Order::OldestFirst => stream > (partition, source),
    };
    if is_ahead { span.from(id, order) } else { span.after(id, order) }
}

#[cfg(test)]
mod tests {
    use envelope::Feature;

    use super::*;
    use crate::inbox::StreamId;

    #[test]
    fn entries_of_the_same_time_are_neither_skipped_nor_repeated_after_a_cursor() {
        let id = StreamId::parse("7-0").unwrap();
        let after = Position { id, partition: 3, source: Source::Dead };
        let all = Span::between(None, None);
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for stream in [
                (2, Source::History),
                (3, Source::Inbox(Feature::Extraction)),
                (3, Source::Dead),
                (3, Source::Quarantine),
                (4, Source::Dead),
            ] {
                let position = Position { id, partition: stream.0, source: stream.1 };
                let comes_after = if order == Order::NewestFirst { position < after } else { position > after };
                let expected = if comes_after { all.clone().from(id, order) } else { all.clone().after(id, order) };
                assert_eq!(begin(all.clone(), stream, order, Some(after)), expected, "{order:?} {stream:?}");
            }
        }
        assert_eq!(begin(all.clone(), (0, Source::Dead), Order::NewestFirst, None), all);
    }
}
