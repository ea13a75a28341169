//! What became of each event: the model behind `backend events`, `show` and `tail`.
//!
//! An event is in one place at a time, and its state follows from that: in the inbox, among the
//! dead letters, in quarantine, or, once it is completed, in the history only. So a list of events
//! needs no table of states that could disagree with where the events are: it merges the streams of
//! all partitions, newest entry first ([`list`]). The timeline of an event ([`stories`]) also shows
//! the changes that the history has recorded, and [`Tail`] follows them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use clap::ValueEnum;
use envelope::{CaseId, EventName, Feature};
use serde::{Serialize, Serializer};

use crate::{
    inbox::{Change, Delivered, Failure, Kept, LastError, Stored},
    time::{as_millis, in_millis},
};

mod filter;
mod forget;
mod list;
mod readmit;
mod replay;
mod story;
mod tail;
mod walk;
mod words;

pub use filter::Filter;
pub use forget::{Forgotten, PendingEvents, forget};
pub use list::{Budget, Cursor, list};
pub use readmit::{Readmitted, readmit};
pub use replay::{Letters, Replayed};
pub use story::{Happened, Step, Story, Subject, WaitsFor, stories};
pub use tail::{Occurrence, Tail};
pub use walk::Walk;

/// An event, and what became of it so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The event's key.
    #[serde(rename = "eventKey")]
    pub key: String,
    /// The event's name; for an undocumented event, the one that was sent, which may contain
    /// anything.
    #[serde(rename = "eventName")]
    pub name: String,
    /// The feature; `None` for an undocumented event.
    #[serde(serialize_with = "feature_name")]
    pub feature: Option<Feature>,
    /// The case that the event is about.
    pub case: String,
    /// What the event's state is.
    pub state: State,
    /// Since when the event has been in that state. An event that waits for a retry counts from when
    /// it arrived, or was returned to the inbox.
    #[serde(rename = "sinceMs", serialize_with = "as_millis")]
    pub since: SystemTime,
    /// When the backend received the event.
    #[serde(rename = "receivedAtMs", serialize_with = "as_millis")]
    pub received_at: SystemTime,
    /// Whether the event was backfilled.
    pub backfilled: bool,
    /// The number of attempts so far.
    pub attempts: u32,
    /// What the application received, if the event is completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Delivered>,
    /// How long the last attempt took, if it is known.
    #[serde(rename = "tookMs", serialize_with = "in_millis", skip_serializing_if = "Duration::is_zero")]
    pub took: Duration,
    /// When the next attempt is due, if the event waits for a retry.
    #[serde(rename = "nextAttemptAtMs", serialize_with = "as_millis", skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<SystemTime>,
    /// The error of the last attempt that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<LastError>,
    /// The failed attempts, oldest first. Of a completed event only the last error is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// The identifier of the trace that began when the event arrived, if it is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// What the state of an event is. Events can be listed by any of them but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It is in the inbox, and no attempt has failed.
    Pending,
    /// It is in the inbox, and waits for a retry.
    Retrying,
    /// It was handled, and its outcome delivered.
    Completed,
    /// It is a dead letter.
    Dead,
    /// It is in quarantine.
    Quarantined,
    /// It was a dead letter, which has expired. The event itself is no longer stored.
    #[value(skip)]
    Expired,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Event {
    /// Returns the event that an entry holds. A record of the history stands for its event only if it
    /// says that the event was completed: otherwise the event is somewhere else.
    pub fn of(stored: &Stored) -> Option<Self> {
        match &stored.what {
            Kept::Record(record) if !matches!(record.change, Change::Completed(_)) => None,
            _ => Some(Self::after(stored)),
        }
    }

    /// Returns the event as it was after the change that an entry stands for.
    fn after(stored: &Stored) -> Self {
        let key = stored.what.key();
        let (name, case) = parts(key).unwrap_or(("", ""));
        let mut event = Self {
            key: key.to_owned(),
            name: name.to_owned(),
            feature: EventName::parse(name).map(|name| name.feature),
            case: case.to_owned(),
            state: State::Pending,
            since: stored.position.id.added_at(),
            received_at: SystemTime::UNIX_EPOCH,
            backfilled: false,
            attempts: 0,
            outcome: None,
            took: Duration::ZERO,
            next_attempt_at: None,
            error: None,
            failures: Vec::new(),
            trace_id: None,
        };
        match &stored.what {
            Kept::Pending(_, entry) => {
                event.state = if entry.due.is_some() { State::Retrying } else { State::Pending };
                event.feature = Some(entry.id.feature());
                event.set_origin(entry.received_at, entry.backfilled, entry.attempts);
                event.next_attempt_at = entry.due;
                event.set_failures(entry.failures.iter());
                event.trace_id = entry.trace_id().map(str::to_owned);
            }
            Kept::Dead(letter) => {
                event.state = State::Dead;
                event.set_origin(letter.received_at, letter.backfilled, letter.attempts);
                event.set_failures(letter.failures.iter());
                event.error = Some(LastError { code: letter.code.clone(), detail: letter.detail.clone() });
                event.trace_id.clone_from(&letter.trace_id);
            }
            Kept::Quarantined(quarantined) => {
                event.state = State::Quarantined;
                event.name = quarantined.event_name().unwrap_or_else(|| name.to_owned());
                event.set_origin(quarantined.received_at, false, 0);
            }
            Kept::Record(record) => {
                (event.state, event.outcome) = match record.change {
                    Change::Completed(outcome) => (State::Completed, Some(outcome)),
                    Change::DeadLettered => (State::Dead, None),
                    Change::Replayed | Change::Revived | Change::Unknown => (State::Pending, None),
                };
                event.set_origin(record.received_at, record.backfilled, record.attempts);
                event.took = record.took;
                event.error = record.error.clone();
                event.trace_id.clone_from(&record.trace_id);
            }
        }
        event
    }

    fn set_origin(&mut self, received_at: SystemTime, backfilled: bool, attempts: u32) {
        (self.received_at, self.backfilled, self.attempts) = (received_at, backfilled, attempts);
    }

    fn set_failures<'a>(&mut self, failures: impl Iterator<Item = &'a Failure>) {
        self.failures = failures.cloned().collect();
        if let Some(Failure { code, detail, took, .. }) = self.failures.last() {
            self.error = Some(LastError { code: code.clone(), detail: detail.clone() });
            self.took = *took;
        }
    }
}

/// Returns the name and the case in an event key, or none if the text is not an event key.
pub fn parts(key: &str) -> Option<(&str, &str)> {
    let (name, rest) = key.split_once(':')?;
    let (case, _) = rest.split_once(':')?;
    CaseId::new(case)?;
    Some((name, case))
}

fn feature_name<S: Serializer>(feature: &Option<Feature>, to: S) -> Result<S::Ok, S::Error> {
    feature.map(Feature::as_str).serialize(to)
}

#[cfg(test)]
mod tests;
