//! TruEnroll's envelope: the body of an event.

use std::borrow::Cow;

use crate::{
    CaseId, EventKey, EventName, Policy, Timestamp,
    json::{self, Fields, Slot, Text},
    problem::{Code, Field, Rejection},
};

/// The body of an event, with every documented field checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The event's name.
    pub event: EventName,
    /// The event's case.
    pub case_id: CaseId<'a>,
    /// The partner's reference for the case, if there is one.
    pub external_id: Option<Cow<'a, str>>,
    /// When the stage finished at TruEnroll.
    pub occurred_at: Timestamp,
}

/// A body that is a valid event except for its undocumented name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent<'a> {
    /// The event's name, which may contain anything.
    pub name: Cow<'a, str>,
    /// The event's case.
    pub case_id: CaseId<'a>,
    /// When the event happened.
    pub occurred_at: Timestamp,
}

/// The verdict on a body that is not rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is one of the eight documented events.
    Accept(Envelope<'a>),
    /// It is an undocumented event, to be quarantined.
    Quarantine(UnknownEvent<'a>),
}

/// The maximum length of an `externalId`, in characters.
const EXTERNAL_ID_MAX: usize = 128;

impl<'a> Envelope<'a> {
    /// Reads a body that the filter has accepted. Checks neither audience nor clock nor policy.
    ///
    /// # Errors
    /// Returns the first reason why the body is not a documented event.
    pub fn parse(body: &'a [u8]) -> Result<Self, Rejection> {
        Verdict::parse(body)?.known()
    }

    /// Returns the event's identity.
    pub fn key(&self) -> EventKey {
        EventKey::new(self.event, &self.case_id, self.occurred_at)
    }
}

impl UnknownEvent<'_> {
    /// Returns the event's identity.
    pub fn key(&self) -> EventKey {
        EventKey::of_unknown(&self.name, &self.case_id, self.occurred_at)
    }
}

impl<'a> Verdict<'a> {
    /// Reads a body as [`Envelope::parse`] does, but accepts undocumented events too.
    ///
    /// # Errors
    /// Returns the first reason why the body is not an event.
    pub fn parse(body: &'a [u8]) -> Result<Self, Rejection> {
        Self::from_fields(&json::scan(body, Policy::DEPTH_LIMIT)?, |_| true)
    }

    /// Returns the event if it is documented.
    ///
    /// # Errors
    /// Returns `unknown_event` if it is not.
    pub fn known(self) -> Result<Envelope<'a>, Rejection> {
        match self {
            Self::Accept(envelope) => Ok(envelope),
            Self::Quarantine(_) => Err(Rejection::of_field(Code::UnknownEvent, Field::EventName)),
        }
    }

    pub(crate) fn from_fields(fields: &Fields<'a>, is_past: impl FnOnce(Timestamp) -> bool) -> Result<Self, Rejection> {
        if fields.root != Slot::Object {
            return Err(invalid(Field::Root));
        }
        let event_name = required(fields.event_name, Field::EventName)?;
        match fields.payload {
            Slot::Object => {}
            Slot::Absent => return Err(Rejection::of_field(Code::MissingField, Field::Payload)),
            _ => return Err(invalid(Field::Payload)),
        }
        let case_id = CaseId::new(required(fields.case_id, Field::CaseId)?.decode()).ok_or(invalid(Field::CaseId))?;
        let external_id = match fields.external_id {
            Slot::Absent | Slot::Null => None,
            Slot::Text(text) => Some(external_id(text).ok_or(invalid(Field::ExternalId))?),
            Slot::Object | Slot::Other => return Err(invalid(Field::ExternalId)),
        };
        let occurred_at = Timestamp::parse(&required(fields.occurred_at, Field::OccurredAt)?.decode())
            .filter(|&occurred_at| is_past(occurred_at))
            .ok_or(invalid(Field::OccurredAt))?;
        let name = event_name.decode();
        Ok(match EventName::parse(&name) {
            Some(event) => Self::Accept(Envelope { event, case_id, external_id, occurred_at }),
            None => Self::Quarantine(UnknownEvent { name, case_id, occurred_at }),
        })
    }
}

fn required(slot: Slot<'_>, field: Field) -> Result<Text<'_>, Rejection> {
    match slot {
        Slot::Text(text) => Ok(text),
        Slot::Absent => Err(Rejection::of_field(Code::MissingField, field)),
        Slot::Null | Slot::Object | Slot::Other => Err(invalid(field)),
    }
}

fn external_id(text: Text<'_>) -> Option<Cow<'_, str>> {
    let decoded = text.decode();
    // A text never has more characters than bytes.
    let fits = decoded.len() <= EXTERNAL_ID_MAX || decoded.chars().nth(EXTERNAL_ID_MAX).is_none();
    (fits && !decoded.is_empty()).then_some(decoded)
}

fn invalid(field: Field) -> Rejection {
    Rejection::of_field(Code::InvalidField, field)
}
