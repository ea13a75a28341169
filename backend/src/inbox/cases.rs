//! What is known of cases: how many events each feature has had, so that it can be told when one never came.

use std::time::{Duration, SystemTime};

use envelope::{CaseId, Feature};

use super::{Inbox, InboxError, scripts};
use crate::event::{from_millis, to_millis};

/// Events that must have been sent and never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// How many.
    pub events: u32,
    /// Since when that has been known.
    pub since: SystemTime,
}

impl Inbox {
    /// Compares the events that a feature of a case has had with how many there `must` have been; with `is_baseline` what is
    /// missing counts as had from now on.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn missing(
        &self,
        case: &CaseId<'_>,
        feature: Feature,
        must: u32,
        is_baseline: bool,
    ) -> Result<Option<Missing>, InboxError> {
        let partition = self.keys.partition_of(case.as_str());
        let mut call = scripts::MISSING.prepare_invoke();
        call.key(self.keys.of_partition(partition).case(case));
        call.arg(feature.as_str()).arg(must).arg(to_millis(SystemTime::now())).arg(self.retention_millis());
        call.arg(u8::from(is_baseline));
        let answer = self.bounded(call.invoke_async(&mut self.connection(partition))).await?;
        let (events, since): (u32, u64) = answer;
        Ok((events > 0).then(|| Missing { events, since: from_millis(since) }))
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
