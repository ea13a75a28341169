//! Dead letters: events that could not be handled, with their error, until they are replayed, are
//! revived by a redelivery, or expire.

use std::time::SystemTime;

use envelope::{Envelope, EventName};

use super::{Inbox, InboxError, scripts, stream::StreamEntry};
use crate::time::from_millis;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The partition that holds the dead letter.
    pub partition: u32,
    /// The identifier of its entry. Within a partition, later dead letters have greater ones.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// The event's name and case. `None` if the stored body is not an event, which then cannot be
    /// replayed.
    pub event: Option<(EventName, String)>,
    /// The error's code.
    pub code: String,
    /// The description of the error, without personal data.
    pub detail: String,
    /// The number of attempts.
    pub attempts: u32,
    /// When the event became a dead letter.
    pub dead_lettered_at: SystemTime,
}

/// The maximum number of dead letters that are read at a time.
const PAGE: usize = 500;

impl DeadLetter {
    fn read(partition: u32, mut entry: StreamEntry) -> Self {
        let body: Vec<u8> = entry.take("body").unwrap_or_default();
        let event = Envelope::parse(&body).ok().map(|event| (event.event, event.case_id.to_string()));
        Self {
            partition,
            key: entry.take("key").unwrap_or_default(),
            event,
            code: entry.take("code").unwrap_or_default(),
            detail: entry.take("detail").unwrap_or_default(),
            attempts: entry.take("attempts").unwrap_or_default(),
            // The field has a name that is older than the term "dead letter".
            dead_lettered_at: from_millis(entry.take("buried").unwrap_or_default()),
            id: entry.id,
        }
    }
}

impl Inbox {
    /// Returns up to 500 dead letters of a partition, oldest first, that come after the entry
    /// `after`. Returns none if there are no more.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn dead_letters(&self, partition: u32, after: Option<&str>) -> Result<Vec<DeadLetter>, InboxError> {
        let start = after.map_or("-".to_owned(), |id| format!("({id}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.of_partition(partition).dead()).arg(start).arg("+").arg("COUNT").arg(PAGE);
        let entries: Vec<StreamEntry> = self.bounded(command.query_async(&mut self.connection(partition))).await?;
        Ok(entries.into_iter().map(|entry| DeadLetter::read(partition, entry)).collect())
    }

    /// Moves a dead letter back to the inbox, behind the other events of its lane. Returns whether
    /// it was still a dead letter.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, InboxError> {
        let Some((event, _)) = letter.event else { return Ok(false) };
        let keys = self.keys.of_partition(letter.partition);
        let mut call = scripts::REPLAY.prepare_invoke();
        call.key(keys.dead()).key(keys.inbox(event.feature)).key(keys.seen_as(&letter.key)).key(keys.history());
        call.arg(&letter.id).arg(self.history.limit);
        self.bounded(call.invoke_async(&mut self.connection(letter.partition))).await
    }
}
