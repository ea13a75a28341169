//! Finds events that never came, and puts them through the same pipeline.
//!
//! TruEnroll sends each event at most once, so one that was lost on the way stays lost unless somebody looks. The Partner
//! API says which uploads are at their end; each of their features must then have had an event. What is missing for longer
//! than a grace period is made up for: as an event whose `occurredAt` is when it was found to be missing, marked
//! `reconciled`. Should the event come after all, it is known ([`Accepted::Late`]).
//!
//! In the first round there is nothing to compare with, so what is missing counts as had, unless the configuration says
//! otherwise: else a partner would be told of every case that it ever submitted.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{CaseId, Envelope, EventName, Feature, Stage, Timestamp};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    event::to_millis,
    inbox::{Accepted, Arrival, Inbox, InboxError},
    partner_api::{Case, PartnerApi, PartnerApiError},
    telemetry::Metrics,
};

/// Looks for events that never came.
pub struct Reconciler {
    inbox: Inbox,
    api: PartnerApi,
    settings: config::Reconciler,
    metrics: Arc<Metrics>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Cases that were looked at.
    pub cases: u64,
    /// Events that are missing, but not for long enough, or that the first round counts as had.
    pub noted: u64,
    /// Events that were made up for.
    pub missed: u64,
}

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The Partner API did not answer as it should.
    #[error("the Partner API: {0}")]
    PartnerApi(#[from] PartnerApiError),
    /// Redis did not answer as it should.
    #[error("{0}")]
    Inbox(#[from] InboxError),
}

impl Reconciler {
    /// A reconciler that compares what `api` says with what `inbox` has had.
    pub fn new(inbox: Inbox, api: PartnerApi, settings: &config::Reconciler, metrics: Arc<Metrics>) -> Self {
        Self { inbox, api, settings: settings.clone(), metrics }
    }

    /// Makes a round once in each interval, over all processes, until `shutdown` is cancelled.
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
                Ok(true) => match shutdown.run_until_cancelled(self.round()).await {
                    Some(Ok(round)) => tracing::info!(?round, "looked for missed events"),
                    Some(Err(error)) => tracing::warn!("could not look for missed events: {error}"),
                    None => return,
                },
                Err(error) => tracing::warn!(reason = error.reason(), "cannot look for missed events: {error}"),
            }
        }
    }

    /// Looks at every case once.
    ///
    /// # Errors
    /// Where the Partner API or Redis does not answer. What was made up for until then stays so.
    pub async fn round(&self) -> Result<Round, ReconcilerError> {
        let is_baseline = !self.settings.first_round_counts && !self.inbox.had_round().await?;
        let (mut round, mut seen, mut skip) = (Round::default(), HashSet::new(), 0);
        loop {
            let page = self.api.cases(skip).await?;
            if page.is_empty() {
                break;
            }
            skip += page.len();
            for case in page {
                // A case that is submitted meanwhile moves others to the next page, where they are met again.
                if seen.insert(case.id.clone()) {
                    self.look_at(case, is_baseline, &mut round).await?;
                }
            }
        }
        self.inbox.end_round().await?;
        Ok(round)
    }

    async fn look_at(&self, case: Case, is_baseline: bool, round: &mut Round) -> Result<(), ReconcilerError> {
        let Some(id) = CaseId::new(case.id.clone()) else { return Ok(()) };
        // What a list says of a case is not documented. The case itself may be deleted by now.
        let case = match if case.uploads.is_empty() { self.api.case(&id).await } else { Ok(case) } {
            Ok(case) => case,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        round.cases += 1;
        for feature in Feature::ALL {
            let must = ended(&case, feature);
            if must == 0 {
                continue;
            }
            let Some(missing) = self.inbox.missing(&id, feature, must, is_baseline).await? else { continue };
            let known_for = SystemTime::now().duration_since(missing.since).unwrap_or_default();
            if is_baseline || known_for < self.settings.grace {
                round.noted += u64::from(missing.events);
                continue;
            }
            let Some(stage) = self.stage(&case, &id, feature).await? else { continue };
            for number in 0..missing.events {
                let found = missing.since + Duration::from_millis(number.into());
                if self.make_up_for(&case, EventName { feature, stage }, found, must).await? {
                    round.missed += 1;
                }
            }
        }
        Ok(())
    }

    /// How the feature's stage ended, as far as can be told; none where the case is gone.
    async fn stage(&self, case: &Case, id: &CaseId<'_>, feature: Feature) -> Result<Option<Stage>, ReconcilerError> {
        let is_failed = match feature {
            Feature::Classification => case.credentials.iter().all(|credential| credential.status == "failed"),
            _ => match self.api.result(id, feature).await {
                Ok(result) => result.is_failed(),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Some(if is_failed { Stage::Failed } else { Stage::Completed }))
    }

    async fn make_up_for(
        &self,
        case: &Case,
        name: EventName,
        found: SystemTime,
        must: u32,
    ) -> Result<bool, InboxError> {
        let occurred_at = Timestamp::from_unix_millis(i64::try_from(to_millis(found)).unwrap_or(i64::MAX));
        let payload = json!({
            "caseId": case.id, "externalId": case.external_id, "occurredAt": occurred_at.to_string(),
        });
        let body = json!({ "eventName": name.as_str(), "payload": payload }).to_string();
        let Ok(event) = Envelope::parse(body.as_bytes()) else { return Ok(false) };
        let key = event.key();
        let arrival = Arrival { missed: Some(must), ..Arrival::now(&event, &key, body.as_bytes()) };
        let is_new = self.inbox.accept(&arrival).await? == Accepted::Stored;
        if is_new {
            tracing::warn!(event_key = key.as_str(), "an event never came, and is made up for");
            self.metrics.missed_events.get_or_create(&name.into()).inc();
        }
        Ok(is_new)
    }
}

/// How many uploads asked for the feature and are at their end.
fn ended(case: &Case, feature: Feature) -> u32 {
    let uploads = case.uploads.iter().filter(|upload| upload.is_at_end() && upload.asked_for(feature));
    u32::try_from(uploads.count()).unwrap_or(u32::MAX)
}
