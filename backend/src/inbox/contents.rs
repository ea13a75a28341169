//! How much the inbox holds, over all partitions.

use std::{panic::resume_unwind, time::SystemTime};

use envelope::Feature;
use tokio::task::JoinSet;

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
    /// Returns how much the inbox holds. Asks for all partitions at once, so that a slow Redis does not
    /// make it last for long.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn contents(&self) -> Result<Contents, InboxError> {
        let mut partitions = JoinSet::new();
        for partition in 0..self.partitions() {
            let inbox = self.clone();
            partitions.spawn(async move { inbox.contents_of(partition).await });
        }
        let mut contents = Contents::default();
        while let Some(read) = partitions.join_next().await {
            contents.add(read.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))?);
        }
        Ok(contents)
    }

    async fn contents_of(&self, partition: u32) -> Result<Contents, InboxError> {
        let keys = self.keys.of_partition(partition);
        let mut connection = self.connection(partition);
        let mut commands = redis::pipe();
        for inbox in Feature::ALL.map(|feature| keys.inbox(feature)) {
            commands.cmd("XRANGE").arg(inbox).arg("-").arg("+").arg("COUNT").arg(1);
        }
        let oldest: [Vec<StreamEntry>; Feature::ALL.len()] =
            self.bounded(commands.query_async(&mut connection)).await?;
        let stored_at = |entries: &Vec<StreamEntry>| StreamId::parse(&entries.first()?.id).map(StreamId::added_at);
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
        Ok(Contents {
            pending: pending.iter().sum(),
            oldest: oldest.each_ref().map(stored_at),
            dead_letters,
            quarantined,
            history,
            owned: u32::from(owned > 0),
        })
    }
}

impl Contents {
    /// Adds what another partition holds.
    fn add(&mut self, other: Self) {
        self.pending += other.pending;
        self.dead_letters += other.dead_letters;
        self.quarantined += other.quarantined;
        self.history += other.history;
        self.owned += other.owned;
        for (oldest, found) in self.oldest.iter_mut().zip(other.oldest) {
            *oldest = [*oldest, found].into_iter().flatten().min();
        }
    }
}
