//! The whole story of an event, or of all events of a case.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, SystemTime},
};

use envelope::{CaseId, Feature};
use serde::Serialize;

use super::{Event, State, Walk, parts};
use crate::{
    inbox::{
        Change, Delivered, Failure, Inbox, InboxError, Kept, LastError, Order, Position, Record, Redelivered, Source,
        Stored,
    },
    time::{as_millis, in_millis},
};

/// Whose story to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All events of a case.
    Case(CaseId<'static>),
    /// One event.
    Event {
        /// The event's key.
        key: String,
        /// The case in the key.
        case: CaseId<'static>,
    },
}

/// An event with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// The event, and what became of it.
    #[serde(flatten)]
    pub event: Event,
    /// What the event waits for, if it is in the inbox.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// How often the event was delivered again, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redelivered: Option<Redelivered>,
    /// What happened to the event, oldest first.
    pub timeline: Vec<Step>,
}

/// What an event in the inbox waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "waitsFor", content = "waitsForEvent", rename_all = "camelCase")]
pub enum WaitsFor {
    /// Its turn, or the end of the attempt that is in progress.
    Turn,
    /// The time of its next attempt.
    Retry,
    /// An earlier event of its lane, with this key.
    EarlierEvent(String),
    /// Its feature, which is paused.
    Resume,
    /// A backend that works on the partition: no backend owns it now.
    Backend,
}

/// Something that happened to an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// When it happened.
    #[serde(rename = "atMs", serialize_with = "as_millis")]
    pub at: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
}

/// What happened to an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "happened", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Happened {
    /// The backend stored it.
    Received {
        /// Whether it never arrived and was reconstructed from the Partner API.
        backfilled: bool,
    },
    /// Attempts failed, all of them in the same way.
    Failed(Failure),
    /// It was completed.
    Completed {
        /// What the application received.
        outcome: Delivered,
        /// The number of attempts.
        attempts: u32,
        /// How long the last attempt took.
        #[serde(rename = "tookMs", serialize_with = "in_millis")]
        took: Duration,
        /// The error of the last attempt that had failed before.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<LastError>,
    },
    /// It became a dead letter.
    DeadLettered {
        /// The number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        error: Option<LastError>,
    },
    /// An operator returned it to the inbox.
    Replayed,
    /// It was delivered again, which returned it to the inbox.
    Revived,
    /// Something that only a newer version knows.
    Unknown,
}

/// How far apart the time of a dead letter and that of its record may be.
const SAME_TIME: Duration = Duration::from_secs(1);

impl Subject {
    /// Returns the event with this key, or the case with this identifier.
    pub fn parse(text: &str) -> Option<Self> {
        match parts(text) {
            Some((_, case)) => Some(Self::Event { key: text.to_owned(), case: CaseId::new(case.to_owned())? }),
            None => Some(Self::Case(CaseId::new(text.to_owned())?)),
        }
    }

    /// Returns the case.
    pub fn case(&self) -> &CaseId<'static> {
        match self {
            Self::Case(case) | Self::Event { case, .. } => case,
        }
    }
}

/// Returns the stories of the events, in the order in which they were received. Reads all that the
/// partition of the case holds.
///
/// # Errors
/// If Redis does not answer.
pub async fn stories(inbox: &Inbox, subject: &Subject) -> Result<Vec<Story>, InboxError> {
    let case = subject.case();
    let found = entries_of(inbox, case).await?;
    let is_waiting = |stored: &&Stored| matches!(stored.what, Kept::Pending(..));
    let waiting = found.iter().filter(is_waiting).map(|stored| (stored.position, stored.what.key().to_owned()));
    let waiting: Vec<_> = waiting.collect();
    let mut entries: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    for stored in found {
        entries.entry(stored.what.key().to_owned()).or_default().push(stored);
    }
    let paused = if waiting.is_empty() { HashSet::new() } else { inbox.paused().await?.features };
    let has_owner = waiting.is_empty() || inbox.has_owner(inbox.partition_of(case)).await?;
    let selected = entries.into_iter().filter(|(found, _)| match subject {
        Subject::Case(_) => true,
        Subject::Event { key, .. } => found == key,
    });
    let mut stories: Vec<_> = selected.filter_map(|(_, entries)| Story::of(&entries)).collect();
    let redelivered = inbox.redelivered(case, stories.iter().map(|story| story.event.key.as_str())).await?;
    for (story, redelivered) in stories.iter_mut().zip(redelivered) {
        story.waits_for = waits_for(&story.event, &waiting, &paused, has_owner);
        story.redelivered = redelivered;
    }
    stories.sort_by_key(|story| story.timeline.first().map(|step| step.at));
    Ok(stories)
}

/// Returns all entries of a case. Reads the history last: an event that is completed meanwhile has
/// been seen in the inbox or is seen in the history.
///
/// # Errors
/// If Redis does not answer.
pub async fn entries_of(inbox: &Inbox, case: &CaseId<'_>) -> Result<Vec<Stored>, InboxError> {
    let mut found = Vec::new();
    for is_history in [false, true] {
        let sources = Source::ALL.into_iter().filter(|source| (*source == Source::History) == is_history);
        let mut walk = Walk::through(inbox, &[inbox.partition_of(case)], sources, Order::OldestFirst, usize::MAX);
        while let Some(stored) = walk.next().await? {
            if parts(stored.what.key()).is_some_and(|(_, of)| of == case.as_str()) {
                found.push(stored);
            }
        }
    }
    Ok(found)
}

/// Returns what an event waits for. `waiting` are the events of its case that are in the inbox, in
/// the order of their arrival.
fn waits_for(
    event: &Event,
    waiting: &[(Position, String)],
    paused: &HashSet<Feature>,
    has_owner: bool,
) -> Option<WaitsFor> {
    let (State::Pending | State::Retrying, Some(feature)) = (event.state, event.feature) else { return None };
    let mut lane = waiting.iter().filter(|(position, _)| position.source == Source::Inbox(feature));
    Some(match lane.next() {
        Some((_, first)) if *first != event.key => WaitsFor::EarlierEvent(first.clone()),
        _ if paused.contains(&feature) => WaitsFor::Resume,
        _ if !has_owner => WaitsFor::Backend,
        _ if event.state == State::Retrying => WaitsFor::Retry,
        _ => WaitsFor::Turn,
    })
}

impl Story {
    /// Tells the story of one event from all of its entries, oldest first.
    fn of(entries: &[Stored]) -> Option<Self> {
        // While the entries were read, the event may have moved, so the latest entry is right. Those
        // of one script have the same time, so only what says where the event is counts.
        let places = entries.iter().filter_map(|stored| Some((stored.position, Event::of(stored)?)));
        let event = match places.max_by_key(|(position, _)| *position) {
            Some((_, event)) => event,
            None => gone(Event::after(entries.iter().max_by_key(|stored| stored.position)?)),
        };
        let origins = entries.iter().map(Event::after).map(|event| (event.received_at, event.backfilled));
        let (received_at, backfilled) = origins.min()?;
        let mut timeline = vec![Step { at: received_at, what: Happened::Received { backfilled } }];
        let failures = |failures: &[Failure]| -> Vec<_> {
            failures.iter().map(|failure| Step { at: failure.first, what: Happened::Failed(failure.clone()) }).collect()
        };
        for stored in entries {
            let at = stored.position.id.added_at();
            match &stored.what {
                Kept::Pending(..) => timeline.extend(failures(&Event::after(stored).failures)),
                Kept::Dead(letter) => {
                    timeline.extend(failures(&Event::after(stored).failures));
                    if !is_recorded_as_dead(entries, at) {
                        let error = Some(LastError { code: letter.code.clone(), detail: letter.detail.clone() });
                        timeline.push(Step { at, what: Happened::DeadLettered { attempts: letter.attempts, error } });
                    }
                }
                Kept::Quarantined(_) => {}
                Kept::Record(record) => timeline.push(Step { at, what: record.into() }),
            }
        }
        timeline.sort_by_key(|step| step.at);
        Some(Self { event, waits_for: None, redelivered: None, timeline })
    }
}

/// Returns an event whose last change is recorded, but which is nowhere.
fn gone(event: Event) -> Event {
    let state = if event.state == State::Dead { State::Expired } else { event.state };
    Event { state, ..event }
}

/// Returns whether the history has recorded that the event became a dead letter at about this time.
fn is_recorded_as_dead(entries: &[Stored], at: SystemTime) -> bool {
    entries.iter().any(|stored| {
        let recorded_at = stored.position.id.added_at();
        let apart = at.duration_since(recorded_at).unwrap_or_else(|error| error.duration());
        matches!(&stored.what, Kept::Record(record) if record.change == Change::DeadLettered) && apart < SAME_TIME
    })
}

impl From<&Record> for Happened {
    fn from(record: &Record) -> Self {
        let (attempts, took, error) = (record.attempts, record.took, record.error.clone());
        match record.change {
            Change::Completed(outcome) => Self::Completed { outcome, attempts, took, error },
            Change::DeadLettered => Self::DeadLettered { attempts, error },
            Change::Replayed => Self::Replayed,
            Change::Revived => Self::Revived,
            Change::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
