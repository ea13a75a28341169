//! Finds events that never arrived, and backfills them: reconstructs them from the Partner API and
//! stores them like any other event.
//!
//! TruEnroll sends each event at most once, so an event that is lost on the way never comes again.
//! The Partner API says which uploads have finished; each of their features must have had an event.
//! An event that has been missing for longer than the grace period is backfilled. Its `occurredAt`
//! is the time at which it was found to be missing, and it is marked `backfilled`. If the original
//! arrives later, it is recognized ([`Accepted::AlreadyBackfilled`](crate::inbox::Accepted)).
//!
//! In the first round, the inbox does not know which events were received before it existed.
//! Missing events are therefore assumed received, unless `reconciler.backfill_first_round` is set:
//! otherwise the application would receive an outcome for every case that the partner ever
//! submitted. After the store was lost, the next round is a first round as well. A round with
//! `since` then backfills the events from that time on.

use std::{sync::Arc, time::SystemTime};

use envelope::CaseId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{config, inbox::Inbox, partner_api::PartnerApi, telemetry::Metrics};

mod backfill;
mod compare;
mod due;
mod error;
mod finished;
mod pages;
mod policy;

pub use error::ReconcilerError;
pub use pages::PagingError;

/// Finds and backfills events that never arrived.
pub struct Reconciler {
    inbox: Inbox,
    api: PartnerApi,
    settings: config::Reconciler,
    metrics: Arc<Metrics>,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Cases that were compared.
    pub cases: u64,
    /// Events that were backfilled.
    pub backfilled: u64,
    /// Events that are missing, but for less than the grace period.
    pub within_grace: u64,
    /// Missing events that are now assumed received, since this is a first round.
    pub assumed_received: u64,
    /// Finished uploads that a round with `since` skipped, because the API states no time for them.
    pub uploads_without_time: u64,
    /// Cases that were skipped, because the API's answer about them is not as documented.
    pub skipped_cases: u64,
}

impl Reconciler {
    /// Returns a reconciler that compares the uploads in `api` with the events in `inbox`.
    pub fn new(inbox: Inbox, api: PartnerApi, settings: &config::Reconciler, metrics: Arc<Metrics>) -> Self {
        Self { inbox, api, settings: settings.clone(), metrics }
    }

    /// Runs one round per interval until `shutdown` is cancelled. All processes together run one
    /// round per interval. A failed round is not repeated before the next interval.
    pub async fn run(self, shutdown: CancellationToken) {
        let interval = self.settings.interval;
        if interval.is_zero() {
            return;
        }
        loop {
            // Each process asks at random times, and the first to ask after an interval runs the
            // round.
            let pause = interval.div_f64(10.0).mul_f64(0.5 + fastrand::f64());
            if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            if self.inbox.is_excluded() {
                // This backend could store nothing, and would take the round from those that can.
                continue;
            }
            match self.inbox.begin_round(interval).await {
                Ok(false) => {}
                Ok(true) => match shutdown.run_until_cancelled(self.round(None)).await {
                    Some(Ok(round)) => log(&round),
                    Some(Err(error)) => tracing::warn!("the search for missing events failed: {error}"),
                    None => return,
                },
                Err(error) => {
                    tracing::warn!(reason = error.reason(), "cannot begin a search for missing events: {error}");
                }
            }
        }
    }

    /// Compares every case once. With `since`, events of uploads that finished at that time or
    /// later are backfilled even if this or an earlier first round assumed them received.
    ///
    /// # Errors
    /// If the Partner API or Redis does not answer, or the round takes too long. Events that were
    /// backfilled before the error stay backfilled.
    pub async fn round(&self, since: Option<SystemTime>) -> Result<Round, ReconcilerError> {
        self.compare(None, since).await
    }

    /// Does the same for one case only. This does not count as a round.
    ///
    /// # Errors
    /// As for a round; also if the case does not exist.
    pub async fn one_case(&self, case: &CaseId<'_>, since: Option<SystemTime>) -> Result<Round, ReconcilerError> {
        self.compare(Some(case), since).await
    }

    async fn compare(&self, only: Option<&CaseId<'_>>, since: Option<SystemTime>) -> Result<Round, ReconcilerError> {
        let mut round = Round::default();
        let compare = async {
            match only {
                Some(case) => self.compare_one(case, since, &mut round).await,
                None => self.compare_all(since, &mut round).await,
            }
        };
        let compared = timeout(self.settings.round_timeout, compare).await;
        match compared.unwrap_or(Err(ReconcilerError::Timeout)) {
            Ok(()) => Ok(round),
            Err(error) if round.assumed_received > 0 => {
                let assumed_received = round.assumed_received;
                Err(ReconcilerError::FirstRound { assumed_received, error: Box::new(error) })
            }
            Err(error) => Err(error),
        }
    }
}

/// What to do if a first round assumed events received that were not.
pub const STORE_LOST: &str = "this was a first round: if the store was lost, run `backend reconcile --since TIME` with the \
                              time since which events may be missing, to backfill them";

fn log(round: &Round) {
    tracing::info!(
        cases = round.cases,
        backfilled = round.backfilled,
        within_grace = round.within_grace,
        assumed_received = round.assumed_received,
        skipped_cases = round.skipped_cases,
        "compared all cases with the events that arrived"
    );
    if round.assumed_received > 0 {
        let assumed_received = round.assumed_received;
        tracing::warn!(assumed_received, "missing events were assumed received; {STORE_LOST}");
    }
}
