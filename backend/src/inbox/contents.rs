//! How much the inbox holds, over all partitions.

use std::time::SystemTime;

use envelope::Feature;

use super::{Inbox, InboxError, StreamId, stream::StreamEntry};

/// How much the inbox holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The events that are neither completed nor dead letters.
    pub pending: u64,
    /// When the oldest of these events was stored, by the clock of Redis. The order is that of
    /// [`Feature::ALL`].
    pub oldest: [Option<SystemTime>; Feature::ALL.len()],
    /// The dead letters.
    pub dead_letters: u64,
    /// The events in quarantine.
    pub quarantined: u64,
    /// The entries of the history.
    pub history: u64,
    /// The partitions that have an owner.
    pub owned: u32,
}

impl Inbox {
    /// Returns how much the inbox holds. This takes two round trips for each partition.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn contents(&self) -> Result<Contents, InboxError> {
        let mut contents = Contents::default();
        for partition in 0..self.partitions() {
            let keys = self.keys.of_partition(partition);
            let mut connection = self.connection(partition);
            let mut commands = redis::pipe();
            for inbox in Feature::ALL.map(|feature| keys.inbox(feature)) {
                commands.cmd("XRANGE").arg(inbox).arg("-").arg("+").arg("COUNT").arg(1);
            }
            let oldest: [Vec<StreamEntry>; Feature::ALL.len()] =
                self.bounded(commands.query_async(&mut connection)).await?;
            for (known, entries) in contents.oldest.iter_mut().zip(&oldest) {
                let found = entries.first().and_then(|entry| StreamId::parse(&entry.id)).map(StreamId::added_at);
                *known = [*known, found].into_iter().flatten().min();
            }
            let mut commands = redis::pipe();
            for inbox in Feature::ALL.map(|feature| keys.inbox(feature)) {
                commands.cmd("XLEN").arg(inbox);
            }
            for stream in [keys.dead(), keys.quarantine(), keys.history()] {
                commands.cmd("XLEN").arg(stream);
            }
            commands.cmd("EXISTS").arg(keys.lease());
            let [pending @ .., dead_letters, quarantined, history, owned]: [u64; Feature::ALL.len() + 4] =
                self.bounded(commands.query_async(&mut connection)).await?;
            contents.pending += pending.iter().sum::<u64>();
            contents.dead_letters += dead_letters;
            contents.quarantined += quarantined;
            contents.history += history;
            contents.owned += u32::from(owned > 0);
        }
        Ok(contents)
    }
}
