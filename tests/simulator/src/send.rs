//! Requests to try by hand, and the answer that each of them deserves.

use std::fmt;

use envelope::{Code, EventName, Field, Timestamp, Verdict};
use serde_json::{Value, json};

use super::sender::Answer;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A documented event.
    Event,
    /// A documented event, and then the same one again.
    Duplicate,
    /// A documented event, and then one with the same key and another body.
    Conflict,
    /// A documented event whose stage finished a week ago.
    Late,
    /// A documented event of a stage that has not finished.
    Forged,
    /// An event whose stage finishes in an hour.
    Future,
    /// An event that is not among the documented ones.
    Unknown,
    /// An event without its case ID.
    Incomplete,
    /// An event that states that it is for another audience.
    OtherAudience,
    /// An event that was cut off in the middle.
    Malformed,
    /// No body at all.
    Empty,
    /// An event larger than any policy allows.
    TooLarge,
    /// An event whose headers say that it is not JSON.
    NotJson,
    /// A documented event, sent with a token that is wrong.
    WrongToken,
}

/// The event that a request is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The event's name.
    pub name: EventName,
    /// The case ID.
    pub case: String,
    /// The partner's own reference for the case.
    pub external_id: Option<String>,
    /// When the stage finished, as the event states it.
    pub occurred_at: String,
    /// Whether the event may have been sent before.
    pub novelty: Novelty,
}

/// Whether an event may have been sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It is new.
    New,
    /// It may have been sent before.
    Uncertain,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it goes.
    pub place: Place,
    /// Its header `content-type`.
    pub media_type: &'static str,
    /// Its body.
    pub body: String,
    /// The answer that it deserves.
    pub deserved: Deserved,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To the webhook.
    Webhook,
    /// To the webhook's path with a token that nobody has.
    WrongToken,
}

/// The answer that a request deserves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deserved {
    /// 202 `accepted`, with this event key.
    Accepted(String),
    /// 202 `accepted` or 202 `duplicate`, with this event key.
    Stored(String),
    /// 202 `duplicate`, with this event key.
    Duplicate(String),
    /// 422 `unknown_event`; or 202 `quarantined`, or 202 `duplicate` if it is already quarantined.
    /// The policy decides between rejection and quarantine.
    Unknown,
    /// A rejection with this code, at this field of the body.
    Rejected(Code, Option<Field>),
}

/// Larger than the highest `max_body_bytes` of a policy.
const TOO_LARGE: usize = 40_000;
const JSON: &str = "application/json";

impl Kind {
    /// How far before `now` the stage of such an event finished, in milliseconds.
    pub fn age_ms(self) -> i64 {
        const HOUR: i64 = 3_600_000;
        match self {
            Self::Late => 7 * 24 * HOUR,
            Self::Future => -HOUR,
            _ => 0,
        }
    }

    /// Whether TruEnroll would send such a request only after the stage has finished.
    pub fn is_true(self) -> bool {
        matches!(self, Self::Event | Self::Duplicate | Self::Conflict | Self::Late)
    }

    /// Returns the requests to send, one after the other.
    pub fn requests(self, subject: &Subject) -> Vec<Request> {
        let event = subject.body(subject.name.as_str());
        let key = key_of(&event);
        let accepted = match subject.novelty {
            Novelty::New => Deserved::Accepted(key.clone()),
            Novelty::Uncertain => Deserved::Stored(key.clone()),
        };
        let rejected = |code| Deserved::Rejected(code, None);
        let rejected_at = |code, field| Deserved::Rejected(code, Some(field));
        match self {
            Self::Event | Self::Late | Self::Forged => vec![Request::new(&event, accepted)],
            Self::Duplicate => {
                vec![Request::new(&event, accepted), Request::new(&event, Deserved::Duplicate(key))]
            }
            Self::Conflict => {
                let mut other = event.clone();
                other["payload"]["externalId"] = "another-reference".into();
                vec![Request::new(&event, accepted), Request::new(&other, Deserved::Duplicate(key))]
            }
            Self::Future => vec![Request::new(&event, rejected_at(Code::InvalidField, Field::OccurredAt))],
            Self::Unknown => {
                let name = format!("case.{}.undocumented", subject.name.feature);
                vec![Request::new(&subject.body(&name), Deserved::Unknown)]
            }
            Self::Incomplete => {
                let mut incomplete = event;
                incomplete["payload"].as_object_mut().map(|payload| payload.remove("caseId"));
                vec![Request::new(&incomplete, rejected_at(Code::MissingField, Field::CaseId))]
            }
            Self::OtherAudience => {
                let mut other = event;
                other["audience"] = "institution".into();
                vec![Request::new(&other, rejected_at(Code::WrongAudience, Field::Audience))]
            }
            Self::Malformed => {
                let body = event.to_string();
                let half = body.chars().take(body.chars().count() / 2).collect();
                vec![Request { body: half, ..Request::new(&event, rejected(Code::MalformedJson)) }]
            }
            Self::Empty => {
                vec![Request { body: String::new(), ..Request::new(&event, rejected(Code::EmptyBody)) }]
            }
            Self::TooLarge => {
                let mut large = event;
                large["padding"] = "x".repeat(TOO_LARGE).into();
                vec![Request::new(&large, rejected(Code::PayloadTooLarge))]
            }
            Self::NotJson => {
                let deserved = rejected(Code::UnsupportedMediaType);
                vec![Request { media_type: "text/plain", ..Request::new(&event, deserved) }]
            }
            Self::WrongToken => {
                vec![Request { place: Place::WrongToken, ..Request::new(&event, rejected(Code::NotFound)) }]
            }
        }
    }
}

impl Subject {
    fn body(&self, name: &str) -> Value {
        let payload = json!({ "caseId": self.case, "externalId": self.external_id, "occurredAt": self.occurred_at });
        json!({ "eventName": name, "payload": payload })
    }
}

impl Request {
    fn new(body: &Value, deserved: Deserved) -> Self {
        Self { place: Place::Webhook, media_type: JSON, body: body.to_string(), deserved }
    }
}

impl Deserved {
    /// Whether a request that deserves this was answered so.
    pub fn is_met_by(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (Self::Accepted(key) | Self::Stored(key), Answer::Accepted(given)) => key == given,
            (Self::Duplicate(key) | Self::Stored(key), Answer::Duplicate(given)) => key == given,
            (Self::Unknown, Answer::Quarantined(_) | Answer::Duplicate(_)) => true,
            (Self::Unknown, Answer::Rejected(status, code, _)) => {
                (*status, code.as_str()) == (Code::UnknownEvent.status(), Code::UnknownEvent.as_str())
            }
            (Self::Rejected(code, field), Answer::Rejected(status, given, pointer)) => {
                *status == code.status() && given == code.as_str() && pointer.as_deref() == field.map(Field::pointer)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Deserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(_) => f.write_str("202 accepted"),
            Self::Stored(_) => f.write_str("202 accepted or duplicate"),
            Self::Duplicate(_) => f.write_str("202 duplicate"),
            Self::Unknown => f.write_str("422 unknown_event or 202 quarantined"),
            Self::Rejected(code, field) => {
                write!(f, "{} {}", code.status(), code.as_str())?;
                field.map_or(Ok(()), |field| write!(f, " at {}", field.pointer()))
            }
        }
    }
}

/// The event key of a body; empty if the body is not an event.
fn key_of(body: &Value) -> String {
    match Verdict::parse(body.to_string().as_bytes()) {
        Ok(Verdict::Accept(envelope)) => envelope.key().to_string(),
        Ok(Verdict::Quarantine(event)) => event.key().to_string(),
        Err(_) => String::new(),
    }
}

/// The time `age_ms` before `now_ms`, as an event states it.
pub fn occurred_at(now_ms: i64, age_ms: i64) -> String {
    Timestamp::from_unix_millis(now_ms - age_ms).to_string()
}

#[cfg(test)]
mod tests {
    use envelope::{Feature, Head, Policy, Stage, decide};

    use super::*;

    const NOW_MS: i64 = 1_767_225_600_250;
    const ALL: [Kind; 14] = [
        Kind::Event,
        Kind::Duplicate,
        Kind::Conflict,
        Kind::Late,
        Kind::Forged,
        Kind::Future,
        Kind::Unknown,
        Kind::Incomplete,
        Kind::OtherAudience,
        Kind::Malformed,
        Kind::Empty,
        Kind::TooLarge,
        Kind::NotJson,
        Kind::WrongToken,
    ];

    fn subject(kind: Kind) -> Subject {
        Subject {
            name: EventName { feature: Feature::Extraction, stage: Stage::Completed },
            case: "a-case".to_owned(),
            external_id: Some("größe \"1\"".to_owned()),
            occurred_at: occurred_at(NOW_MS, kind.age_ms()),
            novelty: Novelty::New,
        }
    }

    /// What the filter would answer under the default policy.
    fn verdict(request: &Request) -> Result<String, (Code, Option<Field>)> {
        let policy = Policy::default();
        let path = match request.place {
            Place::Webhook => policy.path.clone(),
            Place::WrongToken => format!("{}/wrong", policy.path),
        };
        let length = request.body.len().to_string();
        let headers =
            [(":method", "POST"), (":path", &path), ("content-type", request.media_type), ("content-length", &length)];
        let head = Head::read(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())), &policy);
        let passed = decide(&head, request.body.as_bytes(), || Timestamp::from_unix_millis(NOW_MS), &policy);
        passed.map(|_| key_of(&serde_json::from_str(&request.body).unwrap())).map_err(|no| (no.code, no.field))
    }

    #[test]
    fn the_filter_gives_each_request_the_answer_that_it_deserves() {
        for kind in ALL {
            let requests = kind.requests(&subject(kind));
            for request in &requests {
                match (&request.deserved, verdict(request)) {
                    (Deserved::Accepted(key) | Deserved::Duplicate(key), Ok(given)) => assert_eq!(*key, given),
                    (Deserved::Unknown, Err((Code::UnknownEvent, _))) => {}
                    (Deserved::Rejected(code, field), Err(given)) => assert_eq!((*code, *field), given, "{kind:?}"),
                    (deserved, given) => panic!("{kind:?} deserves {deserved}, not {given:?}"),
                }
            }
            assert_eq!(requests.len(), if matches!(kind, Kind::Duplicate | Kind::Conflict) { 2 } else { 1 });
        }
    }

    #[test]
    fn a_conflict_has_the_same_key_and_another_body() {
        let requests = Kind::Conflict.requests(&subject(Kind::Conflict));
        assert_ne!(requests[0].body, requests[1].body);
        assert_eq!(
            requests[1].deserved,
            Deserved::Duplicate("case.extraction.completed:a-case:2026-01-01T00:00:00.25Z".into())
        );
    }

    #[test]
    fn only_the_deserved_answer_meets_a_request() {
        let key = "key".to_owned();
        let accepted = Answer::Accepted(key.clone());
        let duplicate = Answer::Duplicate(key.clone());
        let unknown = Answer::Rejected(422, "unknown_event".into(), Some("/eventName".into()));
        let quarantined = Answer::Quarantined(key.clone());
        let other_key = Answer::Accepted("other".into());
        let answers = [&accepted, &duplicate, &unknown, &quarantined, &other_key, &Answer::Unavailable];
        let is_rejected = Deserved::Rejected(Code::UnknownEvent, Some(Field::EventName));
        for (deserved, expected) in [
            (Deserved::Accepted(key.clone()), [true, false, false, false, false, false]),
            (Deserved::Stored(key.clone()), [true, true, false, false, false, false]),
            (Deserved::Duplicate(key), [false, true, false, false, false, false]),
            (Deserved::Unknown, [false, true, true, true, false, false]),
            (is_rejected, [false, false, true, false, false, false]),
            (Deserved::Rejected(Code::UnknownEvent, None), [false; 6]),
            (Deserved::Rejected(Code::InvalidField, Some(Field::EventName)), [false; 6]),
        ] {
            assert_eq!(answers.map(|answer| deserved.is_met_by(answer)), expected, "{deserved}");
        }
    }

    #[test]
    fn an_event_that_may_have_been_sent_before_deserves_duplicate_as_well() {
        let requests = Kind::Event.requests(&Subject { novelty: Novelty::Uncertain, ..subject(Kind::Event) });
        assert!(matches!(requests[0].deserved, Deserved::Stored(_)));
    }
}
