//! Follows the history as it grows.

use std::time::SystemTime;

use envelope::Feature;
use serde::Serialize;

use super::{Event, Filter, Happened, Step, Walk};
use crate::inbox::{Inbox, InboxError, Kept, Order, Source};

/// Follows what the history records, across all partitions.
///
/// It remembers for each partition what it has read, so an error or a restart of Redis makes it
/// neither skip nor repeat a record.
pub struct Tail<'a> {
    walk: Walk<'a>,
    filter: Filter,
}

/// Something that happened to an event just now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Occurrence {
    /// The event's key.
    #[serde(rename = "eventKey")]
    pub key: String,
    /// The event's name.
    #[serde(rename = "eventName")]
    pub name: String,
    /// The feature.
    #[serde(serialize_with = "super::feature_name")]
    pub feature: Option<Feature>,
    /// The case that the event is about.
    pub case: String,
    /// What happened, and when.
    #[serde(flatten)]
    pub step: Step,
}

impl<'a> Tail<'a> {
    /// Begins with the records that are added from now on, or with those since the time that the
    /// filter states.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn new(inbox: &'a Inbox, filter: Filter) -> Result<Self, InboxError> {
        let partitions = filter.partitions(inbox);
        let mut walk = Walk::through(inbox, &partitions, [Source::History].into_iter(), Order::OldestFirst, usize::MAX);
        match filter.since {
            Some(since) => walk.skip_before(since),
            None => walk.skip_all().await?,
        }
        Ok(Self { walk, filter })
    }

    /// Returns what happened next, or `None` if nothing more has happened by now.
    ///
    /// # Errors
    /// If Redis does not answer. The next call continues where this one has failed.
    pub async fn next(&mut self) -> Result<Option<Occurrence>, InboxError> {
        while let Some(stored) = self.walk.next().await? {
            let event = Event::after(&stored);
            let at: SystemTime = stored.position.id.added_at();
            let is_early = self.filter.until.is_none_or(|until| at < until);
            if let (Kept::Record(record), true) = (&stored.what, is_early && self.filter.selects(&event)) {
                let step = Step { at, what: Happened::from(record) };
                let Event { key, name, feature, case, .. } = event;
                return Ok(Some(Occurrence { key, name, feature, case, step }));
            }
        }
        self.walk.resume();
        Ok(None)
    }
}
