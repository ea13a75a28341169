//! Stages that failed: recommend what to do about it.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{FeatureHandler, HandlerError, Outcome, Recommendation, Retry};
use crate::{
    event::Event,
    partner_api::{CaseStatus, PartnerApi},
};

/// Looks at the case as a whole, since stages that succeeded can still be fetched.
pub(super) struct StageFailed {
    api: PartnerApi,
    wait_for_case: Duration,
}

/// A case that is not at its end is looked at again when the event is older by a part of its age, but not sooner than this.
const SOONEST: Duration = Duration::from_secs(1);

impl StageFailed {
    pub(super) fn new(api: PartnerApi, wait_for_case: Duration) -> Self {
        Self { api, wait_for_case }
    }

    /// When to look again at a case that is not at its end; none where it was waited for long enough.
    fn look_again(&self, event: &Event) -> Option<Duration> {
        look_again(self.wait_for_case, SystemTime::now().duration_since(event.received_at).unwrap_or_default())
    }
}

fn look_again(wait_for_case: Duration, age: Duration) -> Option<Duration> {
    let left = wait_for_case.checked_sub(age).filter(|left| !left.is_zero())?;
    Some((age / 4).max(SOONEST).min(left))
}

#[async_trait]
impl FeatureHandler for StageFailed {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let case = self.api.case(&event.case_id).await?;
        let recommendation = match (&case.status, self.look_again(event)) {
            (CaseStatus::Failed, _) => Recommendation::Resubmit,
            (CaseStatus::Completed, _) => Recommendation::ManualReview,
            (CaseStatus::Queued | CaseStatus::Processing, None) => Recommendation::Wait,
            (CaseStatus::Queued | CaseStatus::Processing, Some(pause)) => {
                let detail = "other stages of the case are not at their end".to_owned();
                return Err(HandlerError { code: "case_processing", detail, retry: Retry::Deferred(pause) });
            }
            (CaseStatus::Other(_), _) => {
                let detail = "the case has a status that is not documented".to_owned();
                return Err(HandlerError { code: "unknown_status", detail, retry: Retry::Later });
            }
        };
        Ok(Outcome::Recommendation { recommendation, case: Box::new(case) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_looked_at_again_ever_later_and_not_for_ever() {
        let seconds = Duration::from_secs;
        for (wait_for_case, age, expected) in [
            (seconds(3_600), seconds(0), Some(SOONEST)),
            (seconds(3_600), seconds(100), Some(seconds(25))),
            (seconds(3_600), seconds(3_599), Some(seconds(1))),
            (seconds(3_600), seconds(3_600), None),
            (seconds(3_600), Duration::MAX, None),
            (Duration::ZERO, Duration::ZERO, None),
            (Duration::MAX, Duration::ZERO, Some(SOONEST)),
            (Duration::MAX, Duration::MAX, None),
        ] {
            assert_eq!(look_again(wait_for_case, age), expected, "{wait_for_case:?}, {age:?}");
        }
    }
}
