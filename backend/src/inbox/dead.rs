//! Dead letters: events that could not be handled, with their error, until somebody replays them.

use std::time::SystemTime;

use envelope::{Envelope, EventName};

use super::{Inbox, InboxError, scripts, stream::StreamEntry};
use crate::time::from_millis;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The partition that it is in.
    pub partition: u32,
    /// The entry's identifier: later letters of a partition have greater ones.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// The event and its case; none where the stored body is no event, which then cannot be replayed.
    pub event: Option<(EventName, String)>,
    /// The error's code.
    pub code: String,
    /// What happened, without personal data.
    pub detail: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it became a dead letter.
    pub buried_at: SystemTime,
}

/// How many entries are read at a time.
const PAGE: usize = 500;

impl DeadLetter {
    fn read(partition: u32, mut entry: StreamEntry) -> Self {
        let mut text = |name| entry.take(name).unwrap_or_default();
        let (key, code, detail) = (text("key"), text("code"), text("detail"));
        let body: Vec<u8> = entry.take("body").unwrap_or_default();
        let event = Envelope::parse(&body).ok().map(|event| (event.event, event.case_id.to_string()));
        Self {
            partition,
            key,
            event,
            code,
            detail,
            attempts: entry.take("attempts").unwrap_or_default(),
            buried_at: from_millis(entry.take("buried").unwrap_or_default()),
            id: entry.id,
        }
    }
}

impl Inbox {
    /// A page of a partition's dead letters, after the one with the identifier `after`; none where there are no more.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn dead_letters(&self, partition: u32, after: Option<&str>) -> Result<Vec<DeadLetter>, InboxError> {
        let start = after.map_or("-".to_owned(), |id| format!("({id}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys.of_partition(partition).dead()).arg(start).arg("+").arg("COUNT").arg(PAGE);
        let entries: Vec<StreamEntry> = self.bounded(command.query_async(&mut self.connection(partition))).await?;
        Ok(entries.into_iter().map(|entry| DeadLetter::read(partition, entry)).collect())
    }

    /// Moves a dead letter back to the inbox, behind its lane's other events. Says whether it still was a dead letter.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, InboxError> {
        let Some((event, _)) = letter.event else { return Ok(false) };
        let keys = self.keys.of_partition(letter.partition);
        let mut call = scripts::REPLAY.prepare_invoke();
        call.key(keys.dead()).key(keys.inbox(event.feature)).key(keys.seen_as(&letter.key)).arg(&letter.id);
        self.bounded(call.invoke_async(&mut self.connection(letter.partition))).await
    }
}
