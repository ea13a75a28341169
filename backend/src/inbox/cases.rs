//! What the inbox knows of cases: how many events each feature has received, so that the reconciler
//! can find the ones that never arrived.

use std::time::{Duration, SystemTime};

use envelope::{CaseId, Feature};

use super::{Inbox, InboxError, scripts};
use crate::time::{duration_millis, from_millis, to_millis};

/// How many events of one feature a case must have received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The feature.
    pub feature: Feature,
    /// How many events the case must have received.
    pub required: u32,
    /// What to do with the events that are missing.
    pub missing: MissingEvents,
    /// How many events may at most stay assumed received; `None` is no limit. If more are, the
    /// excess counts as missing again, so that `backend reconcile --since` can backfill it.
    pub max_assumed_received: Option<u32>,
}

/// What becomes of missing events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingEvents {
    /// The inbox remembers when each of them was first found to be missing.
    Noted,
    /// They are assumed received from now on, so they are never backfilled.
    AssumedReceived,
}

/// The result of comparing the events that a case has received with those that are expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// How many events are newly assumed received.
    pub newly_assumed_received: u32,
    /// How many events are no longer assumed received.
    pub reopened: u32,
    /// How many events were received, including those assumed received.
    pub received: u32,
    /// When each missing event was first found to be missing, in ascending order.
    pub missing_since: Vec<SystemTime>,
}

impl Inbox {
    /// Compares the events of a feature that a case has received with those that are expected.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn compare(&self, case: &CaseId<'_>, expected: Expected) -> Result<Comparison, InboxError> {
        let partition = self.partition_of(case);
        let assumes_received = expected.missing == MissingEvents::AssumedReceived;
        let max_assumed_received = expected.max_assumed_received.map_or(String::new(), |max| max.to_string());
        let mut call = scripts::COMPARE.prepare_invoke();
        call.key(self.keys.of_partition(partition).case(case));
        call.arg(expected.feature.as_str()).arg(expected.required).arg(to_millis(SystemTime::now()));
        call.arg(duration_millis(self.retention)).arg(u8::from(assumes_received)).arg(max_assumed_received);
        let answer: Vec<u64> = self.bounded(call.invoke_async(&mut self.connection(partition))).await?;
        Ok(Comparison::read(&answer))
    }

    /// Returns whether an event was received, as far as `redis.seen_retention_days` go back.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn was_received(&self, case: &CaseId<'_>, event_key: &str) -> Result<bool, InboxError> {
        let partition = self.partition_of(case);
        self.exists(partition, self.keys.of_partition(partition).seen_as(event_key)).await
    }

    /// Returns whether any event of a case was received, as far as `redis.seen_retention_days` go
    /// back.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn knows(&self, case: &CaseId<'_>) -> Result<bool, InboxError> {
        let partition = self.partition_of(case);
        self.exists(partition, self.keys.of_partition(partition).case(case)).await
    }

    /// Returns whether a backend owns a partition now.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn has_owner(&self, partition: u32) -> Result<bool, InboxError> {
        self.exists(partition, self.keys.of_partition(partition).lease()).await
    }

    async fn exists(&self, partition: u32, key: String) -> Result<bool, InboxError> {
        self.bounded(redis::cmd("EXISTS").arg(key).query_async(&mut self.connection(partition))).await
    }

    /// Begins a reconciler round. Returns whether it may begin: `false` if another round began less
    /// than `interval` ago.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn begin_round(&self, interval: Duration) -> Result<bool, InboxError> {
        let mut begin = redis::cmd("SET");
        begin.arg(self.keys.round()).arg(1).arg("NX").arg("PX").arg(duration_millis(interval).max(1));
        let begun: Option<String> = self.bounded(begin.query_async(&mut self.common())).await?;
        Ok(begun.is_some())
    }

    /// Returns whether a round was completed within the time for which cases are remembered
    /// (`redis.seen_retention_days`).
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn had_round(&self) -> Result<bool, InboxError> {
        self.bounded(redis::cmd("EXISTS").arg(self.keys.last_round()).query_async(&mut self.common())).await
    }

    /// Records that a round was completed.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn end_round(&self) -> Result<(), InboxError> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.last_round()).arg(to_millis(SystemTime::now()));
        set.arg("PX").arg(duration_millis(self.retention));
        self.bounded(set.exec_async(&mut self.common())).await
    }
}

impl Comparison {
    /// Reads the answer of `compare.lua`: three counts, followed by the times.
    fn read(answer: &[u64]) -> Self {
        let (counts, times) = answer.split_at(answer.len().min(3));
        let count = |place: usize| counts.get(place).map_or(0, |&count| u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            newly_assumed_received: count(0),
            reopened: count(1),
            received: count(2),
            missing_since: times.iter().copied().map(from_millis).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_three_counts_followed_by_times() {
        for (answer, counts, times) in [
            (&[1, 2, 3, 1_000, 2_000][..], [1, 2, 3], &[1_000, 2_000][..]),
            (&[0, 0, 7], [0, 0, 7], &[]),
            (&[u64::MAX, 1], [u32::MAX, 1, 0], &[]),
            (&[], [0, 0, 0], &[]),
        ] {
            let comparison = Comparison::read(answer);
            assert_eq!([comparison.newly_assumed_received, comparison.reopened, comparison.received], counts);
            assert_eq!(comparison.missing_since, times.iter().copied().map(from_millis).collect::<Vec<_>>());
        }
    }
}
