//! The quarantine: undocumented events, kept separately until they expire or are readmitted by a
//! version of the backend that knows them.

use std::time::SystemTime;

use envelope::{Envelope, Verdict};

mod readmission;

pub use readmission::Readmitted;

use super::{Inbox, InboxError, scripts, stream::StreamEntry};
use crate::time::{duration_millis, from_millis};

/// An event in quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The partition that holds the event.
    pub partition: u32,
    /// The identifier of the event's entry in the quarantine.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// When the backend received the event.
    pub received_at: SystemTime,
    body: Vec<u8>,
}

/// The result of readmitting an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readmission {
    /// The event is in the inbox now.
    Readmitted,
    /// The event was already stored as a documented one, or another process has readmitted it.
    Known,
    /// This version of the backend does not know the event either. It stays in quarantine.
    StillUnknown,
}

/// The maximum number of events that are read at a time.
const PAGE: usize = 500;

impl Quarantined {
    /// Returns the event's name as it was sent. It may contain anything, so it must not be logged.
    pub fn event_name(&self) -> Option<String> {
        match Verdict::parse(&self.body).ok()? {
            Verdict::Accept(envelope) => Some(envelope.event.to_string()),
            Verdict::Quarantine(event) => Some(event.name.into_owned()),
        }
    }

    /// Returns whether this version of the backend knows the event.
    pub fn is_known(&self) -> bool {
        Envelope::parse(&self.body).is_ok()
    }

    pub(super) fn read(partition: u32, mut entry: StreamEntry) -> Self {
        Self {
            partition,
            key: entry.take("key").unwrap_or_default(),
            received_at: from_millis(entry.take("received").unwrap_or_default()),
            body: entry.take("body").unwrap_or_default(),
            id: entry.id,
        }
    }
}

impl Inbox {
    /// Returns up to `wanted` events in a partition's quarantine, oldest first, that come after the
    /// entry `after` and entered the quarantine up to `until_ms`, by the clock of Redis.
    async fn quarantined_until(
        &self,
        partition: u32,
        after: Option<&str>,
        until_ms: u64,
        wanted: usize,
    ) -> Result<Vec<Quarantined>, InboxError> {
        let start = after.map_or("-".to_owned(), |id| format!("({id}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.of_partition(partition).quarantine()).arg(start).arg(until_ms).arg("COUNT").arg(wanted);
        let entries: Vec<StreamEntry> = self.bounded(command.query_async(&mut self.connection(partition))).await?;
        Ok(entries.into_iter().map(|entry| Quarantined::read(partition, entry)).collect())
    }

    /// Moves an event from the quarantine to the inbox, if this version of the backend knows it.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn readmit(&self, event: &Quarantined) -> Result<Readmission, InboxError> {
        let Ok(envelope) = Envelope::parse(&event.body) else { return Ok(Readmission::StillUnknown) };
        let key = envelope.key();
        let feature = envelope.event.feature;
        let keys = self.keys.of_partition(event.partition);
        let mut call = scripts::READMIT.prepare_invoke();
        call.key(keys.seen(&key)).key(keys.inbox(feature)).key(keys.quarantine()).key(keys.case(&envelope.case_id));
        call.arg(scripts::body_hash(&event.body)).arg(duration_millis(self.retention));
        call.arg(key.as_str()).arg(&event.id).arg(feature.as_str());
        let is_moved: bool = self.bounded(call.invoke_async(&mut self.connection(event.partition))).await?;
        Ok(if is_moved { Readmission::Readmitted } else { Readmission::Known })
    }
}
