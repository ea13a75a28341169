//! The records of the history, as they are read.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::stream::StreamEntry;
use crate::{time::from_millis, traces};

/// A change of an event's state that the history has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The event's key.
    pub key: String,
    /// What happened.
    pub change: Change,
    /// When the backend received the event.
    pub received_at: SystemTime,
    /// Whether the event was backfilled.
    pub backfilled: bool,
    /// The number of attempts so far, including the last one.
    pub attempts: u32,
    /// How long the last attempt took.
    pub took: Duration,
    /// The error of the last attempt that failed.
    pub error: Option<LastError>,
    /// The identifier of the event's trace, if it is traced.
    pub trace_id: Option<String>,
}

/// How the last failed attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// The error's code.
    pub code: String,
    /// The description of the error, without personal data.
    pub detail: String,
}

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was completed.
    Completed(Delivered),
    /// It became a dead letter.
    DeadLettered,
    /// An operator returned the dead letter to the inbox.
    Replayed,
    /// The event was delivered again, which returned the dead letter to the inbox.
    Revived,
    /// Something that only a newer version knows.
    Unknown,
}

/// What the application received of a completed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Delivered {
    /// A result.
    Result,
    /// A recommendation.
    Recommendation,
    /// Nothing: there was nothing to deliver.
    None,
}

/// The names of the changes, as they are stored.
const NAMES: [(&str, Change); 6] = [
    ("result", Change::Completed(Delivered::Result)),
    ("recommendation", Change::Completed(Delivered::Recommendation)),
    ("none", Change::Completed(Delivered::None)),
    ("dead", Change::DeadLettered),
    ("replayed", Change::Replayed),
    ("revived", Change::Revived),
];

impl Delivered {
    /// Returns the name, as in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Recommendation => "recommendation",
            Self::None => "none",
        }
    }
}

impl Change {
    fn parse(name: &str) -> Self {
        NAMES.iter().find(|(known, _)| *known == name).map_or(Self::Unknown, |(_, change)| *change)
    }
}

impl Record {
    /// Decodes the records of an entry, in their order. One that is damaged is `None`.
    pub(super) fn read_all(entry: &mut StreamEntry) -> Vec<Option<Self>> {
        if let Some(shared) = entry.take::<String>("events") {
            let records = shared.split('\n').map(|record| record.split_once('\t').unwrap_or((record, "")));
            return records.map(|(event, error)| Self::read(event, error)).collect();
        }
        let event: Option<String> = entry.take("event");
        let error: Option<String> = entry.take("error");
        vec![event.and_then(|event| Self::read(&event, &error.unwrap_or_default()))]
    }

    fn read(event: &str, error: &str) -> Option<Self> {
        let mut words = event.splitn(6, ' ');
        let change = Change::parse(words.next()?);
        let mut number = || words.next()?.parse::<u64>().ok();
        let (received, attempts, took) = (number()?, number()?, number()?);
        let origin = words.next()?;
        let (origin, trace_id) = origin.split_once(':').unwrap_or((origin, ""));
        Some(Self {
            key: words.next()?.to_owned(),
            change,
            received_at: from_millis(received),
            backfilled: origin == "backfilled",
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            took: Duration::from_millis(took),
            error: (!error.is_empty()).then(|| LastError::parse(error)),
            trace_id: traces::is_trace_id(trace_id).then(|| trace_id.to_owned()),
        })
    }
}

impl LastError {
    fn parse(text: &str) -> Self {
        let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
        Self { code: code.to_owned(), detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use envelope::{Envelope, Feature};
    use redis::{FromRedisValue, Value};

    use super::*;
    use crate::inbox::{Entry, EntryId, Failures, Handled};

    const BODY: &[u8] = br#"{"eventName":"case.forensics.failed",
        "payload":{"caseId":"c1","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;

    fn read(fields: &[(&str, &str)]) -> Vec<Option<Record>> {
        let text = |text: &str| Value::BulkString(text.into());
        let fields = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        let entry = Value::Array(vec![text("1-0"), Value::Array(fields)]);
        Record::read_all(&mut StreamEntry::from_redis_value(entry).unwrap())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let took = Duration::from_millis(12);
        let received_at = from_millis(1_750_588_199_999);
        let entry = Entry {
            id: EntryId::new(Feature::Forensics, 1_750_588_200_000, 0),
            body: BODY.to_vec(),
            received_at,
            backfilled: true,
            attempts: 1,
            due: None,
            failures: Failures::default().and("sink_status", "the application answered 503", received_at, took),
            trace: None,
            is_trace_over: false,
        };
        let key = Envelope::parse(BODY).unwrap().key();
        let handled = Handled::recorded(&entry, &key, "recommendation", took);
        let detail = "the application answered 503".to_owned();
        let expected = Record {
            key: "case.forensics.failed:c1:2025-06-22T10:30:00Z".to_owned(),
            change: Change::Completed(Delivered::Recommendation),
            received_at,
            backfilled: true,
            attempts: 2,
            took,
            error: Some(LastError { code: "sink_status".to_owned(), detail }),
            trace_id: None,
        };
        let (event, error) = handled.record.split_once('\t').unwrap();
        assert_eq!(read(&[("event", event), ("error", error)]), [Some(expected.clone())], "an entry of its own");
        let shared = format!("{event}\n\n{}", handled.record);
        let without_error = Record { error: None, ..expected.clone() };
        assert_eq!(read(&[("events", &shared)]), [Some(without_error), None, Some(expected)], "a shared entry");
    }

    #[test]
    fn the_trace_of_a_record_is_read_if_there_is_one() {
        for (origin, trace_id) in [
            ("sent", None),
            ("sent:0af7651916cd43dd8448eb211c80319c", Some("0af7651916cd43dd8448eb211c80319c")),
            ("sent:\"><script>", None),
        ] {
            let record = read(&[("events", &format!("result 1 1 12 {origin} key"))]).remove(0).unwrap();
            assert_eq!((record.trace_id.as_deref(), record.backfilled, record.key.as_str()), (trace_id, false, "key"));
        }
    }

    #[test]
    fn what_is_damaged_or_unknown_is_no_error() {
        for damaged in [("other", "1"), ("event", "result soon 1 12 sent key"), ("events", "result 1 1 12 sent")] {
            assert_eq!(read(&[damaged]), [None]);
        }
        let newer = read(&[("event", "archived 1 1 12 sent key"), ("more", "1")]).remove(0).unwrap();
        assert_eq!(newer.change, Change::Unknown);
    }

    #[test]
    fn the_stored_names_never_change() {
        for (name, change) in [
            ("result", Change::Completed(Delivered::Result)),
            ("recommendation", Change::Completed(Delivered::Recommendation)),
            ("none", Change::Completed(Delivered::None)),
            ("dead", Change::DeadLettered),
            ("replayed", Change::Replayed),
            ("revived", Change::Revived),
        ] {
            assert_eq!(Change::parse(name), change);
        }
    }
}
