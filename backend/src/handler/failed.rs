//! The handler of failed stages: recommends what the application should do.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{FeatureHandler, HandlerError, Outcome, Recommendation, Retry};
use crate::{
    event::Event,
    partner_api::{CaseStatus, PartnerApi},
};

/// Recommends by the status of the whole case, since other stages of it may have results.
pub(super) struct StageFailed {
    pub(super) api: PartnerApi,
    pub(super) wait_for_case: Duration,
}

/// The shortest pause before an unfinished case is fetched again.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Returns the pause before an unfinished case is fetched again for an event of this age: a quarter
/// of the age, so that the calls become rarer. Returns `None` once the event is as old as
/// `wait_for_case`.
fn next_fetch(wait_for_case: Duration, age: Duration) -> Option<Duration> {
    let left = wait_for_case.checked_sub(age).filter(|left| !left.is_zero())?;
    Some((age / 4).max(SHORTEST_PAUSE).min(left))
}

/// Returns the recommendation for a case with this status, if an unfinished case is fetched again
/// after `next_fetch`.
fn recommend(status: &CaseStatus, next_fetch: Option<Duration>) -> Result<Recommendation, HandlerError> {
    match status {
        CaseStatus::Failed => Ok(Recommendation::Resubmit),
        CaseStatus::Completed => Ok(Recommendation::ManualReview),
        CaseStatus::Queued | CaseStatus::Processing => match next_fetch {
            None => Ok(Recommendation::Wait),
            Some(pause) => Err(case_unfinished(pause)),
        },
        CaseStatus::Other(_) => Err(unknown_status()),
    }
}

fn case_unfinished(pause: Duration) -> HandlerError {
    let detail =
        "other stages of the case have not finished; `handler.wait_for_case_s` limits how long to wait for them";
    HandlerError { code: "case_processing", detail: detail.to_owned(), retry: Retry::Deferred(pause) }
}

fn unknown_status() -> HandlerError {
    let detail = "the Partner API returned a case status that is not documented".to_owned();
    HandlerError { code: "unknown_status", detail, retry: Retry::Later }
}

#[async_trait]
impl FeatureHandler for StageFailed {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let case = self.api.case(&event.case_id).await?;
        let age = SystemTime::now().duration_since(event.received_at).unwrap_or_default();
        let recommendation = recommend(&case.status, next_fetch(self.wait_for_case, age))?;
        Ok(Outcome::Recommendation { recommendation, case: Box::new(case) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_case_is_fetched_ever_more_rarely_and_not_for_ever() {
        let seconds = Duration::from_secs;
        for (wait_for_case, age, expected) in [
            (seconds(3_600), seconds(0), Some(SHORTEST_PAUSE)),
            (seconds(3_600), seconds(100), Some(seconds(25))),
            (seconds(3_600), seconds(3_599), Some(seconds(1))),
            (seconds(3_600), seconds(3_600), None),
            (seconds(3_600), Duration::MAX, None),
            (Duration::ZERO, Duration::ZERO, None),
            (Duration::MAX, Duration::ZERO, Some(SHORTEST_PAUSE)),
            (Duration::MAX, Duration::MAX, None),
        ] {
            assert_eq!(next_fetch(wait_for_case, age), expected, "{wait_for_case:?}, {age:?}");
        }
    }

    #[test]
    fn the_recommendation_follows_from_the_status_of_the_case() {
        let pause = Duration::from_secs(5);
        for (status, next_fetch, expected) in [
            (CaseStatus::Failed, Some(pause), Ok(Recommendation::Resubmit)),
            (CaseStatus::Failed, None, Ok(Recommendation::Resubmit)),
            (CaseStatus::Completed, Some(pause), Ok(Recommendation::ManualReview)),
            (CaseStatus::Completed, None, Ok(Recommendation::ManualReview)),
            (CaseStatus::Queued, None, Ok(Recommendation::Wait)),
            (CaseStatus::Processing, None, Ok(Recommendation::Wait)),
            (CaseStatus::Queued, Some(pause), Err(("case_processing", Retry::Deferred(pause)))),
            (CaseStatus::Processing, Some(pause), Err(("case_processing", Retry::Deferred(pause)))),
            (CaseStatus::Other("archived".to_owned()), Some(pause), Err(("unknown_status", Retry::Later))),
            (CaseStatus::Other("archived".to_owned()), None, Err(("unknown_status", Retry::Later))),
        ] {
            let recommended = recommend(&status, next_fetch).map_err(|error| (error.code, error.retry));
            assert_eq!(recommended, expected, "{status:?}, {next_fetch:?}");
        }
    }
}
