//! An event as handlers receive it.

use std::time::SystemTime;

use envelope::{CaseId, Envelope, EventKey, EventName, Rejection, Timestamp};

/// An accepted event.
#[derive(Debug, Clone)]
pub struct Event {
    /// The event's identity: its name, case and `occurred_at`.
    pub key: EventKey,
    /// The event's name: the feature, and whether its stage completed or failed.
    pub name: EventName,
    /// The case that the event is about.
    pub case_id: CaseId<'static>,
    /// The partner's own reference for the case. It may be personal data, so it must not be logged.
    pub external_id: Option<String>,
    /// When the stage finished, as TruEnroll states it; for a backfilled event, when the reconciler
    /// first found the event missing.
    pub occurred_at: Timestamp,
    /// When the backend received the event.
    pub received_at: SystemTime,
    /// Whether the event never arrived and the reconciler reconstructed it from the Partner API.
    pub backfilled: bool,
}

impl Event {
    /// Parses the body of an event that arrived.
    ///
    /// # Errors
    /// Returns a [`Rejection`] if the body is not an event.
    pub fn parse(body: &[u8], received_at: SystemTime) -> Result<Self, Rejection> {
        let envelope = Envelope::parse(body)?;
        Ok(Self {
            key: envelope.key(),
            name: envelope.event,
            external_id: envelope.external_id.map(std::borrow::Cow::into_owned),
            occurred_at: envelope.occurred_at,
            case_id: envelope.case_id.into_owned(),
            received_at,
            backfilled: false,
        })
    }
}
