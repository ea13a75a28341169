//! The history: for each partition a stream with what became of its events.
//!
//! The scripts that remove an event from the inbox, or bring one back, write the record in the same
//! step. So a crash leaves no event whose history contradicts its state. A record that cannot be
//! written is left out: it must not keep an event from being completed.
//!
//! The history has no index by case. One would cost another command for each event, and doubled what
//! the history costs Redis in a comparison of the scripts alone. To find the records of a case, the
//! stream of its partition is read.
//!
//! The records of events that are completed by one call share entries, since adding an entry costs
//! more than adding to one. The limit counts records, but Redis trims a stream by the number
//! of entries, so `record.lua` counts the records and trims by the identifiers of entries.

use std::time::Duration;

use envelope::EventKey;

use super::{Entry, EntryId, days};
use crate::{
    config,
    time::{duration_millis, to_millis},
};

/// An event that was handled and has yet to leave the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// Its entry in the inbox.
    pub entry: EntryId,
    /// The record, with the error after a tab if an attempt has failed; an empty string if there is
    /// no history.
    pub(super) record: String,
}

/// The maximum number of records in one entry. More would hardly be cheaper to add, and a page of
/// entries must fit into memory.
pub(super) const RECORDS_PER_ENTRY: usize = 32;

/// What the history of one partition keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The maximum number of records; 0 if there is no history.
    pub(super) limit: u64,
    /// How long a record is kept.
    pub(super) retention: Duration,
}

impl Limits {
    /// Returns each partition's share of what `settings` allow.
    pub(super) fn new(settings: &config::History, partitions: u32) -> Self {
        let limit = if settings.enabled { settings.max_events.div_ceil(u64::from(partitions)) } else { 0 };
        Self { limit, retention: days(settings.retention_days) }
    }
}

impl Handled {
    /// Returns an event that leaves no record.
    pub fn unrecorded(entry: EntryId) -> Self {
        Self { entry, record: String::new() }
    }

    /// Returns an event whose last attempt succeeded after it had taken `took`. `outcome` is the
    /// kind of its outcome.
    pub(super) fn recorded(entry: &Entry, key: &EventKey, outcome: &str, took: Duration) -> Self {
        let mut record = event_field(outcome, entry, entry.attempts.saturating_add(1), took, key);
        if let Some(last) = entry.failures.last() {
            record += &format!("\t{} {}", last.code, last.detail);
        }
        Self { entry: entry.id, record }
    }

    /// Returns whether the event leaves a record.
    pub(super) fn is_recorded(&self) -> bool {
        !self.record.is_empty()
    }

    /// Moves the record out, and leaves the entry.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::unrecorded(self.entry))
    }
}

/// Returns a record without an error: what happened, when the event was received, the number of
/// attempts, how long the last one took, whether the event was sent or backfilled, and its key. If an
/// event that was sent is traced, a colon and the identifier of its trace follow the word `sent`:
/// older versions only check whether the word is `backfilled`, so they ignore the addition.
pub(super) fn event_field(
    change: &str,
    entry: &Entry,
    attempts: u32,
    took: Duration,
    key: impl std::fmt::Display,
) -> String {
    let (received, took) = (to_millis(entry.received_at), duration_millis(took));
    let origin = match (entry.backfilled, entry.trace_id()) {
        (true, _) => "backfilled".to_owned(),
        (false, None) => "sent".to_owned(),
        (false, Some(trace)) => format!("sent:{trace}"),
    };
    format!("{change} {received} {attempts} {took} {origin} {key}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use envelope::{Envelope, Feature};

    use super::*;
    use crate::{inbox::failures::Failures, time::from_millis};

    const BODY: &[u8] = br#"{"eventName":"case.forensics.failed",
        "payload":{"caseId":"c1","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
    const TOOK: Duration = Duration::from_millis(12);

    fn entry(attempts: u32, failures: Failures) -> Entry {
        Entry {
            id: EntryId::new(Feature::Forensics, 1_750_588_200_000, 0),
            body: BODY.to_vec(),
            received_at: from_millis(1_750_588_199_999),
            backfilled: attempts > 0,
            attempts,
            due: None,
            failures,
            trace: None,
            is_trace_over: false,
        }
    }

    #[test]
    fn a_record_says_what_happened() {
        let key = Envelope::parse(BODY).unwrap().key();
        let first = Handled::recorded(&entry(0, Failures::default()), &key, "none", TOOK);
        assert_eq!(first.record, "none 1750588199999 1 12 sent case.forensics.failed:c1:2025-06-22T10:30:00Z");
        let failures = Failures::default().and("sink_status", "the application answered 503", SystemTime::now(), TOOK);
        let second = Handled::recorded(&entry(1, failures), &key, "recommendation", TOOK);
        let expected = "recommendation 1750588199999 2 12 backfilled case.forensics.failed:c1:2025-06-22T10:30:00Z\t\
                        sink_status the application answered 503";
        assert_eq!(second.record, expected);
    }

    #[test]
    fn the_record_of_a_traced_event_names_the_trace_and_remains_readable_without_it() {
        let key = Envelope::parse(BODY).unwrap().key();
        let record = |entry| Handled::recorded(&entry, &key, "none", TOOK).record;
        let untraced = record(entry(0, Failures::default()));
        let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let traced = record(Entry { trace: trace.clone(), ..entry(0, Failures::default()) });
        assert_eq!(traced, untraced.replace("sent", "sent:0af7651916cd43dd8448eb211c80319c"));
        assert!(traced.len() - untraced.len() <= 40);
        let backfilled = || entry(1, Failures::default());
        assert_eq!(record(Entry { trace, ..backfilled() }), record(backfilled()));
        let damaged = Some("00-0af7651916cd43dd 448eb211c80319c1-b7ad6b7169203331-01".to_owned());
        assert_eq!(record(Entry { trace: damaged, ..entry(0, Failures::default()) }), untraced);
    }

    #[test]
    fn the_record_of_an_event_is_taken_once() {
        let key = Envelope::parse(BODY).unwrap().key();
        let mut handled = Handled::recorded(&entry(0, Failures::default()), &key, "none", TOOK);
        assert!(handled.take().is_recorded());
        assert!(!handled.take().is_recorded());
    }

    #[test]
    fn the_partitions_share_the_limit() {
        let settings = config::History { enabled: true, retention_days: 7, max_events: 1_000 };
        assert_eq!(Limits::new(&settings, 16).limit, 63);
        assert_eq!(Limits::new(&settings, 1).limit, 1_000);
        assert_eq!(Limits::new(&config::History { enabled: false, ..settings }, 16).limit, 0);
    }
}
