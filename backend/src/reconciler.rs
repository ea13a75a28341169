//! Finds events that never arrived, and backfills them: reconstructs them from the Partner API and puts them through the same
//! pipeline.
//!
//! TruEnroll sends each event at most once, so one that was lost on the way stays lost unless somebody looks. The Partner
//! API says which uploads are at their end; each of their features must then have had an event. An event that is missing for
//! longer than a grace period, each counted on its own, is backfilled: its `occurredAt` is when it was found to be missing,
//! and it is marked `backfilled`. Should it arrive after all, it is recognized ([`Accepted::AlreadyBackfilled`]).
//!
//! In the first round there is nothing to compare with, so what is missing is taken as already received, unless the
//! configuration says otherwise: else a partner would be told of every case that it ever submitted. After the loss of the
//! store the next round is a first round, too; [`Scope::since`] then says from when on events are to be backfilled.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{CaseId, Envelope, EventName, Feature, Stage, Timestamp};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    inbox::{Accepted, Arrival, Expected, Inbox, InboxError, MissingEvents, Origin},
    partner_api::{Case, PartnerApi, PartnerApiError},
    telemetry::Metrics,
    time::to_millis,
};

mod ended;
mod pages;
mod wanted;

pub use pages::PagingError;

use ended::Ended;
use pages::{Page, Pages};

/// Looks for events that never arrived.
pub struct Reconciler {
    inbox: Inbox,
    api: PartnerApi,
    settings: config::Reconciler,
    metrics: Arc<Metrics>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Cases that were compared.
    pub cases: u64,
    /// Events that were backfilled.
    pub backfilled: u64,
    /// Events that are missing, but not for long enough.
    pub within_grace: u64,
    /// Missing events that the first round has taken as already received.
    pub taken: u64,
    /// Uploads that were left out because the API states no time for them, and one was asked for.
    pub undated: u64,
    /// Cases that could not be compared, since the API does not answer for them as it should.
    pub skipped: u64,
}

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The Partner API did not answer as it should.
    #[error("{0}")]
    PartnerApi(#[from] PartnerApiError),
    /// The list of cases cannot be walked through.
    #[error("Partner API: {0}")]
    Paging(#[from] PagingError),
    /// Redis did not answer as it should.
    #[error("{0}")]
    Inbox(#[from] InboxError),
    /// The edge's policy cannot be read.
    #[error("`reconciler.policy_file`: {file}: {error}")]
    Policy {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: String,
    },
    /// The round took too long.
    #[error("the round took longer than `reconciler.round_timeout_s`")]
    Timeout,
    /// Any of these, in a first round. No later round takes the same events again, and could say so.
    #[error("{error}; until then {taken} missing events were taken as already received; {STORE_LOST}")]
    FirstRound {
        /// How many missing events it has taken as already received.
        taken: u64,
        /// Why it was not finished.
        error: Box<ReconcilerError>,
    },
}

/// What a round looks at.
struct Scope {
    is_first: bool,
    /// Uploads that ended at this time or later have no event that is only taken as received.
    since: Option<SystemTime>,
    /// The features that are wanted.
    features: Vec<Feature>,
}

impl Reconciler {
    /// A reconciler that compares what `api` says with what `inbox` has received.
    pub fn new(inbox: Inbox, api: PartnerApi, settings: &config::Reconciler, metrics: Arc<Metrics>) -> Self {
        Self { inbox, api, settings: settings.clone(), metrics }
    }

    /// Makes a round once in each interval, over all processes, until `shutdown` is cancelled. After a round that failed, the
    /// next one comes no sooner.
    pub async fn run(self, shutdown: CancellationToken) {
        let interval = self.settings.interval;
        if interval.is_zero() {
            return;
        }
        loop {
            // Several processes ask, and at different times: whoever is first makes the round.
            let pause = interval.div_f64(10.0).mul_f64(0.5 + fastrand::f64());
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            match self.inbox.begin_round(interval).await {
                Ok(false) => {}
                Ok(true) => match shutdown.run_until_cancelled(self.round(None)).await {
                    Some(Ok(round)) => report(&round),
                    Some(Err(error)) => tracing::warn!("could not look for events that never arrived: {error}"),
                    None => return,
                },
                Err(error) => tracing::warn!(reason = error.reason(), "cannot look for missing events: {error}"),
            }
        }
    }

    /// Looks at every case once. With `since`, events of uploads that ended then or later are backfilled even if a first
    /// round has taken them, or would take them, as already received.
    ///
    /// # Errors
    /// If the Partner API or Redis does not answer, or the round takes too long. What was backfilled until then stays so.
    pub async fn round(&self, since: Option<SystemTime>) -> Result<Round, ReconcilerError> {
        let mut round = Round::default();
        let looked = timeout(self.settings.round_timeout, self.look_at_all(since, &mut round)).await;
        match looked.unwrap_or(Err(ReconcilerError::Timeout)) {
            Ok(()) => Ok(round),
            Err(error) if round.taken > 0 => {
                Err(ReconcilerError::FirstRound { taken: round.taken, error: Box::new(error) })
            }
            Err(error) => Err(error),
        }
    }

    async fn look_at_all(&self, since: Option<SystemTime>, round: &mut Round) -> Result<(), ReconcilerError> {
        let is_first = !self.settings.backfill_first_round && !self.inbox.had_round().await?;
        let features = wanted::features(&self.settings.policy_file)?;
        let scope = Scope { is_first, since, features };
        let mut pages = Pages::new();
        loop {
            let mut page: Vec<_> = patiently(|| self.api.cases(pages.skip())).await?.into_iter().map(Some).collect();
            let new = pages.take(page.iter().flatten().map(|case| case.id.as_str()))?;
            let Page::New(places) = new else { break };
            for place in places {
                if let Some(case) = page.get_mut(place).and_then(Option::take) {
                    self.look_at(case, &scope, round).await?;
                }
            }
        }
        Ok(self.inbox.end_round().await?)
    }

    /// Compares a case. One for which the API does not answer as it should keeps no other from being compared.
    async fn look_at(&self, case: Case, scope: &Scope, round: &mut Round) -> Result<(), ReconcilerError> {
        match self.compare(case, scope, round).await {
            Err(ReconcilerError::PartnerApi(error)) if error.is_of_one_case() => {
                tracing::warn!(code = error.code(), "a case could not be compared: {error}");
                round.skipped += 1;
                Ok(())
            }
            compared => compared,
        }
    }

    async fn compare(&self, case: Case, scope: &Scope, round: &mut Round) -> Result<(), ReconcilerError> {
        let Some(id) = CaseId::new(case.id.clone()) else { return Ok(()) };
        // What a list says of a case is not documented. The case itself may be deleted by now.
        let case = match if case.uploads.is_empty() { patiently(|| self.api.case(&id)).await } else { Ok(case) } {
            Ok(case) => case,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        round.cases += 1;
        if scope.since.is_some() {
            round.undated += ended::undated(&case);
        }
        for feature in Feature::ALL {
            self.compare_feature(&case, &id, feature, scope, round).await?;
        }
        Ok(())
    }

    async fn compare_feature(
        &self,
        case: &Case,
        id: &CaseId<'_>,
        feature: Feature,
        scope: &Scope,
        round: &mut Round,
    ) -> Result<(), ReconcilerError> {
        let grace = self.settings.grace;
        let ended = Ended::count(case, feature, scope.since, ended::settled(SystemTime::now(), grace));
        if ended.all == 0 {
            return Ok(());
        }
        if !scope.features.contains(&feature) {
            // Not to be backfilled when the feature is wanted again either, unless that is asked for.
            let missing = MissingEvents::AssumedReceived;
            let expected = Expected { feature, required: ended.all, missing, max_assumed_received: None };
            self.inbox.compare(id, expected).await?;
            return Ok(());
        }
        let max_assumed_received = scope.since.map(|_| ended.all - ended.since);
        let missing = if scope.is_first { MissingEvents::AssumedReceived } else { MissingEvents::Noted };
        let expected = Expected { feature, required: ended.all, missing, max_assumed_received };
        let found = self.inbox.compare(id, expected).await?;
        round.taken += u64::from(found.newly_assumed_received);
        let now = SystemTime::now();
        let is_over = |since: &&SystemTime| now.duration_since(**since).unwrap_or_default() >= grace;
        let over = found.missing_since.iter().filter(is_over).count() + found.reopened.min(ended.settled) as usize;
        let over = over.min(found.missing_since.len());
        round.within_grace += (found.missing_since.len() - over) as u64;
        if over == 0 {
            return Ok(());
        }
        let Some(stage) = self.stage(case, id, feature).await? else { return Ok(()) };
        for (required, since) in (found.received.saturating_add(1)..).zip(&found.missing_since[..over]) {
            round.backfilled += u64::from(self.backfill(case, EventName { feature, stage }, *since, required).await?);
        }
        Ok(())
    }

    /// How the feature's stage ended, as far as can be told; none where the case is gone.
    async fn stage(&self, case: &Case, id: &CaseId<'_>, feature: Feature) -> Result<Option<Stage>, ReconcilerError> {
        let is_failed = match feature {
            Feature::Classification => case.credentials.iter().all(|credential| credential.status == "failed"),
            _ => match patiently(|| self.api.result(id, feature)).await {
                Ok(result) => result.is_failed(),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Some(if is_failed { Stage::Failed } else { Stage::Completed }))
    }

    async fn backfill(
        &self,
        case: &Case,
        name: EventName,
        found: SystemTime,
        required: u32,
    ) -> Result<bool, InboxError> {
        let occurred_at = Timestamp::from_unix_millis(i64::try_from(to_millis(found)).unwrap_or(i64::MAX));
        let payload = json!({
            "caseId": case.id, "externalId": case.external_id, "occurredAt": occurred_at.to_string(),
        });
        let body = json!({ "eventName": name.as_str(), "payload": payload }).to_string();
        let Ok(event) = Envelope::parse(body.as_bytes()) else { return Ok(false) };
        let key = event.key();
        let arrival =
            Arrival { origin: Origin::Backfilled { required }, ..Arrival::now(&event, &key, body.as_bytes()) };
        let is_new = self.inbox.accept(&arrival).await? == Accepted::Stored;
        if is_new {
            tracing::warn!(event_key = key.as_str(), "an event never arrived, and is backfilled");
            self.metrics.backfilled_events.get_or_create(&name.into()).inc();
        }
        Ok(is_new)
    }
}

/// How long a round waits while the Partner API is not called because other calls use up its rate.
const BUSY: Duration = Duration::from_secs(60);

/// Repeats a call that was not made because other calls use up the rate: events go first.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, PartnerApiError>
where
    F: Future<Output = Result<T, PartnerApiError>>,
{
    let patience = Instant::now() + BUSY;
    loop {
        match call().await {
            Err(error) if error.is_busy() && Instant::now() < patience => {
                sleep(error.retry_after.unwrap_or(BUSY).min(BUSY)).await;
            }
            answer => return answer,
        }
    }
}

/// What to do if a first round took events as received that were not.
pub const STORE_LOST: &str = "this was a first round: if the store was lost, run `backend reconcile --since TIME` with the \
                              time from which on events may be missing, to backfill them";

fn report(round: &Round) {
    tracing::info!(?round, "looked for events that never arrived");
    if round.taken > 0 {
        tracing::warn!(taken = round.taken, "missing events were taken as already received; {STORE_LOST}");
    }
}
