//! What is known of cases: how many events each feature has had, so that it can be told when one never came.

use std::time::{Duration, SystemTime};

use envelope::{CaseId, Feature};

use super::{Inbox, InboxError, scripts};
use crate::time::{from_millis, to_millis};

/// How many events of a feature of a case there must have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The feature.
    pub feature: Feature,
    /// How many.
    pub must: u32,
    /// Whether those that are missing are taken as already received from now on.
    pub is_taken: bool,
    /// The most events that may remain taken as received; those beyond are missing again.
    pub most_taken: Option<u32>,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// How many events are newly taken as already received.
    pub taken: u32,
    /// How many no longer are.
    pub reopened: u32,
    /// How many were received, those that are taken so included.
    pub received: u32,
    /// Since when each missing event has been known to be missing, in ascending order.
    pub since: Vec<SystemTime>,
}

impl Inbox {
    /// Compares the events that a feature of a case has received with those that are due.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn missing(&self, case: &CaseId<'_>, due: Due) -> Result<Missing, InboxError> {
        let partition = self.keys.partition_of(case.as_str());
        let mut call = scripts::MISSING.prepare_invoke();
        call.key(self.keys.of_partition(partition).case(case));
        call.arg(due.feature.as_str()).arg(due.must).arg(to_millis(SystemTime::now())).arg(self.retention_millis());
        call.arg(u8::from(due.is_taken)).arg(due.most_taken.map_or(String::new(), |most| most.to_string()));
        let answer: Vec<u64> = self.bounded(call.invoke_async(&mut self.connection(partition))).await?;
        let (counts, since) = answer.split_at(answer.len().min(3));
        let count = |place: usize| counts.get(place).map_or(0, |&count| u32::try_from(count).unwrap_or(u32::MAX));
        let since = since.iter().copied().map(from_millis).collect();
        Ok(Missing { taken: count(0), reopened: count(1), received: count(2), since })
    }

    /// Begins a round of looking for missed events, unless one was begun less than `pause` ago: then it says no.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn begin_round(&self, pause: Duration) -> Result<bool, InboxError> {
        let mut begin = redis::cmd("SET");
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        begin.arg(self.keys.round()).arg(1).arg("NX").arg("PX").arg(pause);
        let begun: Option<String> = self.bounded(begin.query_async(&mut self.common())).await?;
        Ok(begun.is_some())
    }

    /// Whether there was a whole round in the time for which cases are remembered.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn had_round(&self) -> Result<bool, InboxError> {
        self.bounded(redis::cmd("EXISTS").arg(self.keys.last_round()).query_async(&mut self.common())).await
    }

    /// Notes that a whole round was made.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn end_round(&self) -> Result<(), InboxError> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.last_round()).arg(to_millis(SystemTime::now())).arg("PX").arg(self.retention_millis());
        self.bounded(set.exec_async(&mut self.common())).await
    }
}
