//! How many dead letters there are with each code.
//!
//! No such number is kept in Redis, where an older backend would not maintain it. Instead, each
//! backend counts what is there, remembers how far it has come, and reads only what was added since.
//! Dead letters are only added at the end. So if a partition has as many as were counted, none has
//! been removed, and the counts are right. If it has fewer, some have been removed, and the
//! partition is counted again from the beginning.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Inbox, InboxError, scripts};
use crate::codes;

/// How many dead letters there are with each code. A code that this version does not know counts as
/// `other`, and dead letters that there was no time to count as `uncounted`.
pub type NumbersOfCodes = BTreeMap<&'static str, u64>;

/// What has been counted so far.
#[derive(Debug, Default)]
pub struct DeadLetterCounts {
    partitions: BTreeMap<u32, Count>,
    /// The partition with which to continue.
    next: u32,
}

/// What has been counted of a partition.
#[derive(Debug)]
struct Count {
    began: Instant,
    /// The last entry that was counted.
    last: String,
    numbers: NumbersOfCodes,
}

/// How many dead letters are counted by one call, which stops Redis for about a millisecond.
const STEP: u64 = 50;
/// How long to count at a time. The rest is counted the next time.
const COUNT_FOR: Duration = Duration::from_millis(500);
/// After this time, a partition is counted from the beginning even if the total is right. A server
/// that fails over or restarts may lose the removal of a dead letter; if another one is then removed,
/// the number stays the same.
const COUNT_ANEW_AFTER: Duration = Duration::from_secs(3_600);

impl DeadLetterCounts {
    /// Counts what has changed, and returns the number of dead letters with each code. `total` is
    /// the number of all dead letters.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn update(&mut self, inbox: &Inbox, total: u64) -> Result<NumbersOfCodes, InboxError> {
        let mut is_complete = true;
        if total == 0 {
            self.partitions.clear();
        } else {
            match timeout(COUNT_FOR, self.count(inbox)).await {
                Ok(counted) => counted?,
                Err(_) => is_complete = false,
            }
        }
        let mut numbers: NumbersOfCodes = codes::all().chain(["other"]).map(|code| (code, 0)).collect();
        for (code, number) in self.partitions.values().flat_map(|count| &count.numbers) {
            *numbers.entry(code).or_default() += number;
        }
        let uncounted = if is_complete { 0 } else { total.saturating_sub(numbers.values().sum()) };
        numbers.insert("uncounted", uncounted);
        Ok(numbers)
    }

    /// One partition after the other, so that Redis serves others in between.
    async fn count(&mut self, inbox: &Inbox) -> Result<(), InboxError> {
        for _ in 0..inbox.partitions() {
            let partition = self.next;
            // First, so that the next time does not begin with a partition that takes too long.
            self.next = (partition + 1) % inbox.partitions();
            self.partitions.entry(partition).or_insert_with(Count::new).update(inbox, partition).await?;
        }
        Ok(())
    }
}

impl Count {
    fn new() -> Self {
        Self { began: Instant::now(), last: "0".to_owned(), numbers: BTreeMap::new() }
    }

    async fn update(&mut self, inbox: &Inbox, partition: u32) -> Result<(), InboxError> {
        if self.began.elapsed() > COUNT_ANEW_AFTER {
            *self = Self::new();
        }
        if !self.advance(inbox, partition).await? {
            *self = Self::new();
            // If others are removed meanwhile, the next update notices it.
            self.advance(inbox, partition).await?;
        }
        Ok(())
    }

    /// Counts up to the last entry. Returns whether as many were counted as there are.
    async fn advance(&mut self, inbox: &Inbox, partition: u32) -> Result<bool, InboxError> {
        loop {
            let mut call = scripts::COUNT_DEAD_LETTERS.prepare_invoke();
            call.key(inbox.keys.of_partition(partition).dead()).arg(&self.last).arg(STEP);
            let (there, last, numbers): (u64, String, Vec<(String, u64)>) =
                inbox.bounded(call.invoke_async(&mut inbox.connection(partition))).await?;
            let read: u64 = numbers.iter().map(|(_, number)| number).sum();
            for (code, number) in numbers {
                let known = codes::all().find(|known| *known == code).unwrap_or("other");
                *self.numbers.entry(known).or_default() += number;
            }
            self.last = last;
            if read < STEP {
                return Ok(self.numbers.values().sum::<u64>() == there);
            }
        }
    }
}
