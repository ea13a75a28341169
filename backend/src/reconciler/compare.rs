//! One round: compares each case of the Partner API with the events that the inbox has received.

use std::time::{Duration, SystemTime};

use envelope::{CaseId, EventName, Feature, Stage};
use tokio::time::{Instant, sleep};

use super::{
    Reconciler, ReconcilerError, Round,
    due::{Due, Scope},
    finished::{self, FinishedUploads},
    pages::{Page, Pages},
    policy,
};
use crate::{
    inbox::MissingEvents,
    partner_api::{Case, PartnerApiError},
};

/// A round in progress.
struct Progress<'a> {
    scope: Scope,
    /// What the round has done so far.
    round: &'a mut Round,
}

/// How long a round waits for a call that is not made because events use up the limits on calls.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Reconciler {
    /// Compares all cases. What was done is in `round`, even after an error.
    pub(super) async fn compare_all(
        &self,
        since: Option<SystemTime>,
        round: &mut Round,
    ) -> Result<(), ReconcilerError> {
        let mut progress = Progress { scope: self.scope(since).await?, round };
        let mut pages = Pages::new();
        loop {
            let cases = patiently(|| self.api.cases(pages.skip())).await?;
            let mut cases: Vec<_> = cases.into_iter().map(Some).collect();
            let page = pages.take(cases.iter().flatten().map(|case| case.id.as_str()))?;
            let Page::New(places) = page else { break };
            for place in places {
                if let Some(case) = cases.get_mut(place).and_then(Option::take) {
                    self.compare_or_skip(case, &mut progress).await?;
                }
            }
        }
        Ok(self.inbox.end_round().await?)
    }

    /// Compares one case.
    pub(super) async fn compare_one(
        &self,
        id: &CaseId<'_>,
        since: Option<SystemTime>,
        round: &mut Round,
    ) -> Result<(), ReconcilerError> {
        let case = patiently(|| self.api.case(id)).await?;
        let mut progress = Progress { scope: self.scope(since).await?, round };
        self.compare_case(case, &mut progress).await
    }

    async fn scope(&self, since: Option<SystemTime>) -> Result<Scope, ReconcilerError> {
        let is_first = !self.settings.backfill_first_round && !self.inbox.had_round().await?;
        let missing = if is_first { MissingEvents::AssumedReceived } else { MissingEvents::Noted };
        let features = policy::enabled_features(&self.settings.policy_file)?;
        Ok(Scope { missing, since, features })
    }

    /// Compares a case, and skips it if the API's answer about it is not as documented, so that it
    /// does not keep other cases from being compared.
    async fn compare_or_skip(&self, case: Case, progress: &mut Progress<'_>) -> Result<(), ReconcilerError> {
        match self.compare_case(case, progress).await {
            Err(ReconcilerError::PartnerApi(error)) if error.is_of_one_case() => {
                tracing::warn!(code = error.code(), "skipped a case in the search for missing events: {error}");
                progress.round.skipped_cases += 1;
                Ok(())
            }
            compared => compared,
        }
    }

    async fn compare_case(&self, listed: Case, progress: &mut Progress<'_>) -> Result<(), ReconcilerError> {
        let Some(id) = CaseId::new(listed.id.clone()) else { return Ok(()) };
        let mut case = listed;
        if case.uploads.is_empty() {
            // TruEnroll does not document whether the list includes uploads.
            case = match patiently(|| self.api.case(&id)).await {
                Ok(case) => case,
                // It was deleted after it was listed.
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        }
        progress.round.cases += 1;
        if progress.scope.since.is_some() {
            progress.round.uploads_without_time += finished::without_time(&case);
        }
        for feature in Feature::ALL {
            self.compare_feature(&case, &id, feature, progress).await?;
        }
        Ok(())
    }

    async fn compare_feature(
        &self,
        case: &Case,
        id: &CaseId<'_>,
        feature: Feature,
        progress: &mut Progress<'_>,
    ) -> Result<(), ReconcilerError> {
        let grace = self.settings.grace;
        let finished = FinishedUploads::count(case, feature, progress.scope.since, SystemTime::now(), grace);
        if finished.all == 0 {
            return Ok(());
        }
        let found = self.inbox.compare(id, progress.scope.expected(feature, finished)).await?;
        if !progress.scope.includes(feature) {
            return Ok(());
        }
        let due = Due::of(&found, finished, SystemTime::now(), grace);
        progress.round.assumed_received += u64::from(found.newly_assumed_received);
        progress.round.within_grace += due.within_grace as u64;
        if due.backfill == 0 {
            return Ok(());
        }
        let Some(stage) = self.stage(case, id, feature).await? else { return Ok(()) };
        let name = EventName { feature, stage };
        let mut required = found.received;
        for missing_since in found.missing_since.iter().take(due.backfill) {
            required = required.saturating_add(1);
            if self.backfill(case, name, *missing_since, required).await? {
                progress.round.backfilled += 1;
            }
        }
        Ok(())
    }

    /// Returns whether the feature's stage completed or failed, as far as the API shows it; `None`
    /// if the case or the result no longer exists.
    async fn stage(&self, case: &Case, id: &CaseId<'_>, feature: Feature) -> Result<Option<Stage>, ReconcilerError> {
        let has_failed = if feature == Feature::Classification {
            case.credentials.iter().all(|credential| credential.status == "failed")
        } else {
            match patiently(|| self.api.result(id, feature)).await {
                Ok(result) => result.is_failed(),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Some(if has_failed { Stage::Failed } else { Stage::Completed }))
    }
}

/// Repeats a call that was not made because a limit on calls is reached: events go first.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, PartnerApiError>
where
    F: Future<Output = Result<T, PartnerApiError>>,
{
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        match call().await {
            Err(error) if error.is_busy() && Instant::now() < deadline => {
                sleep(error.retry_after.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)).await;
            }
            answer => return answer,
        }
    }
}
