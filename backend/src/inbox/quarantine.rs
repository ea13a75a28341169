//! Events that are not documented: kept apart, to be looked at, and re-admitted once this program knows them.

use std::time::SystemTime;

use envelope::{Envelope, Verdict};

use super::{Inbox, InboxError, scripts, stream::StreamEntry};
use crate::time::{from_millis, to_millis};

/// An event in quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The partition that it is in.
    pub partition: u32,
    /// The entry's identifier.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// When it was stored.
    pub received_at: SystemTime,
    body: Vec<u8>,
}

/// What came of an attempt to re-admit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readmission {
    /// It is in the inbox now.
    Readmitted,
    /// It was in the inbox before, or somebody else re-admitted it.
    Known,
    /// This program does not know the event either: it stays where it is.
    StillUnknown,
}

/// How many entries are read at a time.
const PAGE: usize = 500;

impl Quarantined {
    /// The event's name, as it was sent. It may hold anything: not for logs.
    pub fn event_name(&self) -> Option<String> {
        match Verdict::parse(&self.body).ok()? {
            Verdict::Accept(envelope) => Some(envelope.event.to_string()),
            Verdict::Quarantine(event) => Some(event.name.into_owned()),
        }
    }

    fn read(partition: u32, mut entry: StreamEntry) -> Self {
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
    /// Up to 500 events in a partition's quarantine, oldest first, after the entry `after`; none where there are no more.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn quarantined(&self, partition: u32, after: Option<&str>) -> Result<Vec<Quarantined>, InboxError> {
        let start = after.map_or("-".to_owned(), |id| format!("({id}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.of_partition(partition).quarantine()).arg(start).arg("+").arg("COUNT").arg(PAGE);
        let entries: Vec<StreamEntry> = self.bounded(command.query_async(&mut self.connection(partition))).await?;
        Ok(entries.into_iter().map(|entry| Quarantined::read(partition, entry)).collect())
    }

    /// Moves an event from the quarantine to the inbox, if this program knows it.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn readmit(&self, event: &Quarantined) -> Result<Readmission, InboxError> {
        let Ok(envelope) = Envelope::parse(&event.body) else { return Ok(Readmission::StillUnknown) };
        let (key, keys) = (envelope.key(), self.keys.of_partition(event.partition));
        let mut call = scripts::READMIT.prepare_invoke();
        call.key(keys.seen(&key))
            .key(keys.inbox(envelope.event.feature))
            .key(keys.quarantine())
            .key(keys.case(&envelope.case_id));
        call.arg(scripts::body_hash(&event.body)).arg(self.retention_millis());
        call.arg(key.as_str())
            .arg(&event.body)
            .arg(to_millis(event.received_at))
            .arg(&event.id)
            .arg(envelope.event.feature.as_str());
        let moved: bool = self.bounded(call.invoke_async(&mut self.connection(event.partition))).await?;
        Ok(if moved { Readmission::Readmitted } else { Readmission::Known })
    }
}
