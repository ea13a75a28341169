//! Dead letters: events that could not be handled, with their error, until they are replayed, are
//! revived by a redelivery, or expire.

use std::time::SystemTime;

use envelope::{Envelope, EventName};

use super::{Failures, Inbox, InboxError, scripts, stream::StreamEntry};
use crate::{time::from_millis, traces};

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The partition that holds the dead letter.
    pub partition: u32,
    /// The identifier of its entry. Within a partition, later dead letters have greater ones.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// The event's name. `None` if the stored body is not an event, which then cannot be replayed.
    pub name: Option<EventName>,
    /// The error's code.
    pub code: String,
    /// The description of the error, without personal data.
    pub detail: String,
    /// The number of attempts.
    pub attempts: u32,
    /// The attempts that have failed. Empty in dead letters of older versions.
    pub failures: Failures,
    /// When the backend received the event.
    pub received_at: SystemTime,
    /// Whether the event was backfilled.
    pub backfilled: bool,
    /// When the event became a dead letter.
    pub dead_lettered_at: SystemTime,
    /// The identifier of the event's trace, if it is traced.
    pub trace_id: Option<String>,
}

impl DeadLetter {
    pub(super) fn read(partition: u32, mut entry: StreamEntry) -> Self {
        let body: Vec<u8> = entry.take("body").unwrap_or_default();
        let envelope = Envelope::parse(&body).ok();
        // An old backend stored no key.
        let key = entry.take("key").or_else(|| envelope.as_ref().map(|event| event.key().to_string()));
        Self {
            partition,
            key: key.unwrap_or_default(),
            name: envelope.map(|event| event.event),
            code: entry.take("code").unwrap_or_default(),
            detail: entry.take("detail").unwrap_or_default(),
            attempts: entry.take("attempts").unwrap_or_default(),
            failures: Failures::parse(&entry.take::<String>("failures").unwrap_or_default()),
            received_at: from_millis(entry.take("received").unwrap_or_default()),
            // These fields have names that are older than the terms "backfilled" and "dead letter".
            backfilled: entry.take("missed") == Some(1),
            dead_lettered_at: from_millis(entry.take("buried").unwrap_or_default()),
            trace_id: entry.take::<String>("traced").as_deref().and_then(traces::trace_id).map(str::to_owned),
            id: entry.id,
        }
    }
}

impl Inbox {
    /// Moves a dead letter back to the inbox, behind the other events of its lane. Returns whether
    /// it was still a dead letter.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, InboxError> {
        let Some(event) = letter.name else { return Ok(false) };
        let keys = self.keys.of_partition(letter.partition);
        let mut call = scripts::REPLAY.prepare_invoke();
        call.key(keys.dead()).key(keys.inbox(event.feature)).key(keys.seen_as(&letter.key));
        call.key(keys.history()).key(keys.history_marks());
        call.arg(&letter.id).arg(self.history.limit);
        self.bounded(call.invoke_async(&mut self.connection(letter.partition))).await
    }
}
