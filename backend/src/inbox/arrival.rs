//! An event that is to be stored.

use std::time::SystemTime;

use envelope::{CaseId, Envelope, EventKey, Feature, Timestamp};

/// Where an event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the inbox, in the stream of this feature.
    Inbox(Feature),
    /// In the quarantine.
    Quarantine,
}

/// How an event reached the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// TruEnroll sent it.
    Sent,
    /// It never arrived, and the reconciler reconstructed it from the Partner API.
    Backfilled {
        /// How many events of the feature the case must have received, this one included. The event
        /// is stored only if the case has received fewer.
        required: u32,
    },
}

/// An event that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Where to store the event.
    pub place: Place,
    /// The event's identity.
    pub key: &'a EventKey,
    /// The case that the event is about.
    pub case_id: &'a CaseId<'a>,
    /// When the stage finished.
    pub occurred_at: Timestamp,
    /// The event's body.
    pub body: &'a [u8],
    /// When the backend received the event.
    pub received_at: SystemTime,
    /// How the event reached the backend.
    pub origin: Origin,
    /// The context of the span `store`, if the event is traced.
    pub trace: Option<&'a str>,
}

impl Place {
    /// Returns the name of the feature, or `quarantine`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbox(feature) => feature.as_str(),
            Self::Quarantine => "quarantine",
        }
    }
}

impl<'a> Arrival<'a> {
    /// Returns a documented event that TruEnroll has sent and the backend has received just now.
    pub fn now(event: &'a Envelope<'a>, key: &'a EventKey, body: &'a [u8]) -> Self {
        Self {
            place: Place::Inbox(event.event.feature),
            key,
            case_id: &event.case_id,
            occurred_at: event.occurred_at,
            body,
            received_at: SystemTime::now(),
            origin: Origin::Sent,
            trace: None,
        }
    }
}
