//! The quarantine: undocumented events, kept separately until they expire or are readmitted by a
//! version of the backend that knows them.

use std::time::SystemTime;

use envelope::{Envelope, Verdict};

use super::{Inbox, InboxError, scripts, stream::StreamEntry};
use crate::time::{duration_millis, from_millis, to_millis};

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

/// How many events at most are left out of a count because they arrived later.
const MOST_LATER: usize = 500;

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
    /// Returns how many events entered the quarantine before `until`, by the clock of Redis.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn quarantined_before(&self, until: SystemTime) -> Result<u64, InboxError> {
        let mut total = 0;
        for partition in 0..self.partitions() {
            let key = self.keys.of_partition(partition).quarantine();
            let mut commands = redis::pipe();
            commands.atomic().cmd("XLEN").arg(&key);
            commands.cmd("XRANGE").arg(&key).arg(to_millis(until)).arg("+").arg("COUNT").arg(MOST_LATER);
            let (all, later): (u64, Vec<redis::Value>) =
                self.bounded(commands.query_async(&mut self.connection(partition))).await?;
            total += all.saturating_sub(later.len() as u64);
        }
        Ok(total)
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
