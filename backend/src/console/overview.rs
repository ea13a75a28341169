//! The page Overview: whether everything is well, and what is going on.

use std::{sync::PoisonError, time::Duration};

use askama::Template;
use axum::response::Response;
use envelope::Feature;
use serde::Serialize;

use super::{
    Context,
    answer::{Asked, Frame},
    chart::Chart,
    edge::{self, Edge},
};
use crate::{
    doctor::{self, Finding, Status},
    inbox::InboxError,
    time::duration_millis,
    units::{count, duration},
};

/// What the page shows. What cannot be found out is `None`, and a notice says why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    /// The worst status of all notices; `pass` if there are none.
    status: Status,
    /// What needs attention.
    notices: Vec<Finding>,
    /// What waits and who works on it, from Redis.
    work: Option<Work>,
    /// The four features.
    features: Vec<FeatureState>,
    /// What this backend counted in the last hour.
    charts: Vec<Chart>,
    /// What Envoy says.
    edge: Option<Edge>,
    /// Why Envoy says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    edge_problem: Option<String>,
}

/// What waits and who works on it, over all backends.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Work {
    /// Events that are neither completed nor dead letters.
    waiting: u64,
    /// How long ago the oldest of them was stored.
    oldest_waiting_ms: Option<u64>,
    dead_letters: u64,
    quarantined: u64,
    backends: u64,
    partitions: u32,
    partitions_owned: u32,
    /// Partitions whose lease this backend holds.
    partitions_owned_here: u64,
}

/// The state of a feature.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FeatureState {
    feature: &'static str,
    /// Whether its events are stored, but not handled; `None` if Redis does not say.
    paused: Option<bool>,
}

/// What Redis says.
struct Stored {
    work: Work,
    paused: Vec<Feature>,
    notices: Vec<Finding>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    view: Overview,
}

pub(super) async fn show(Asked { context, frame }: Asked) -> Response {
    let page = Page { view: Overview::read(&context).await, frame };
    page.frame.show(&page, &page.view)
}

impl Overview {
    async fn read(context: &Context) -> Self {
        let config = context.config();
        let (stored, edge) = tokio::join!(Stored::read(context), edge::ask(&config.doctor.envoy_url));
        let rates = context.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notices = answers(rates.recent_answers("unproven"), rates.recent_answers("unavailable"));
        let charts = rates.charts();
        drop(rates);
        let (work, paused) = match stored {
            Ok(Stored { work, paused, notices: found }) => {
                notices.extend(found);
                (Some(work), Some(paused))
            }
            Err(error) => {
                notices.insert(0, silent(&error));
                (None, None)
            }
        };
        let (edge, edge_problem) = match edge {
            Ok(edge) => (Some(edge), None),
            Err(problem) => (None, Some(problem)),
        };
        let state = |feature: Feature| FeatureState {
            feature: feature.as_str(),
            paused: paused.as_ref().map(|paused| paused.contains(&feature)),
        };
        Self {
            status: notices.iter().map(|notice| notice.status).max().unwrap_or(Status::Pass),
            notices,
            work,
            features: Feature::ALL.map(state).into(),
            charts,
            edge,
            edge_problem,
        }
    }

    /// Whether everything is well, in words.
    fn summary(&self) -> &'static str {
        match self.status {
            Status::Pass => "All is well",
            Status::Warning => "It works, but something needs attention",
            Status::Failure => "Something does not work",
        }
    }
}

impl Stored {
    async fn read(context: &Context) -> Result<Self, InboxError> {
        let (inbox, config) = (&context.inbox, context.config());
        inbox.ping().await?;
        let examination = inbox.examined(&config);
        let paused = inbox.paused().await?;
        let contents = inbox.contents().await?;
        let ownership = examination.ownership(&contents).await?;
        let backlog = examination.backlog(&contents).await?;
        let mut notices = Vec::from(doctor::judge_work(&config, ownership, &backlog, contents.dead_letters));
        notices.retain(|finding| finding.status > Status::Pass);
        let unconfirmed =
            if paused.features.is_empty() { Vec::new() } else { inbox.unconfirmed(paused.version).await? };
        if !unconfirmed.is_empty() {
            notices.push(Finding::warning(
                format!("{} may still handle events of a paused feature", count(unconfirmed.len() as u64, "backend")),
                "wait a moment: each backend confirms a pause once it begins no more attempts",
            ));
        }
        let work = Work {
            waiting: backlog.events,
            oldest_waiting_ms: backlog.oldest.map(duration_millis),
            dead_letters: contents.dead_letters,
            quarantined: contents.quarantined,
            backends: ownership.members,
            partitions: ownership.partitions,
            partitions_owned: ownership.owned,
            partitions_owned_here: u64::try_from(context.metrics.partitions_owned.get()).unwrap_or_default(),
        };
        Ok(Self { work, paused: backlog.paused, notices })
    }
}

impl Work {
    fn oldest(&self) -> String {
        self.oldest_waiting_ms.map_or("–".to_owned(), |age| duration(Duration::from_millis(age)))
    }
}

/// The notice that Redis says nothing.
fn silent(error: &InboxError) -> Finding {
    Finding::failure(
        format!("Redis cannot be used ({}): {error}", error.reason()),
        "bring Redis back. Until then events are answered 503, and Envoy retries each for up to 20 s",
    )
}

/// The notices about recent answers of the ingest to events that it should have stored.
fn answers(unproven: u64, unavailable: u64) -> Vec<Finding> {
    let mut notices = Vec::new();
    if unproven > 0 {
        notices.push(Finding::failure(
            format!("{} of the last 5 minutes had an unknown proof", count(unproven, "request")),
            "set `ingest.proof` to the proof with which the filter was published",
        ));
    }
    if unavailable > 0 {
        notices.push(Finding::warning(
            format!("{} of the last 5 minutes could not be stored at once", count(unavailable, "request")),
            "look at the log: the field `reason` says why. Envoy retries each for up to 20 s",
        ));
    }
    notices
}
