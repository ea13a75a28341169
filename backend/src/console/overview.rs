//! The page Overview: whether everything is well, and what is going on.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use askama::Template;
use axum::{Extension, Json, extract::State, response::Response};
use envelope::Feature;
use serde::Serialize;

use super::{
    Context,
    answer::{Frame, html},
    chart::Chart,
    edge::{self, Edge},
};
use crate::{
    doctor::{self, Status},
    inbox::{Backlog, InboxError, Ownership},
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
    notices: Vec<Notice>,
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

/// Something that needs attention.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    status: Status,
    found: String,
    advice: String,
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
    ownership: Ownership,
    backlog: Backlog,
    dead_letters: u64,
    quarantined: u64,
    /// Backends that have not confirmed that a feature is paused.
    unconfirmed: u64,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    view: Overview,
}

pub(super) async fn page(State(context): State<Arc<Context>>, Extension(frame): Extension<Frame>) -> Response {
    html(&Page { frame, view: Overview::read(&context).await })
}

pub(super) async fn json(State(context): State<Arc<Context>>) -> Json<Overview> {
    Json(Overview::read(&context).await)
}

impl Overview {
    async fn read(context: &Context) -> Self {
        let config = context.config();
        let (stored, edge) = tokio::join!(Stored::read(context), edge::ask(&config.doctor.envoy_url));
        let rates = context.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notices = answers(rates.recent_answers("unproven"), rates.recent_answers("unavailable"));
        let charts = rates.charts();
        drop(rates);
        match &stored {
            Ok(stored) => notices.extend(stored.notices(context)),
            Err(error) => notices.insert(0, silent(error)),
        }
        let (edge, edge_problem) = match edge {
            Ok(edge) => (Some(edge), None),
            Err(problem) => (None, Some(problem)),
        };
        let paused = stored.as_ref().ok().map(|stored| stored.backlog.paused.clone());
        let state = |feature: Feature| FeatureState {
            feature: feature.as_str(),
            paused: paused.as_ref().map(|paused| paused.contains(&feature)),
        };
        let owned_here = u64::try_from(context.metrics.partitions_owned.get()).unwrap_or_default();
        Self {
            status: notices.iter().map(|notice| notice.status).max().unwrap_or(Status::Pass),
            notices,
            work: stored.ok().map(|stored| stored.work(owned_here)),
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
        let inbox = &context.inbox;
        inbox.ping().await?;
        let config = context.config();
        let examination = inbox.examined(&config);
        let paused = inbox.paused().await?;
        let is_paused = !paused.features.is_empty();
        let contents = inbox.contents().await?;
        Ok(Self {
            ownership: examination.ownership(&contents).await?,
            backlog: examination.backlog(&contents).await?,
            dead_letters: contents.dead_letters,
            quarantined: contents.quarantined,
            unconfirmed: if is_paused { inbox.unconfirmed(paused.version).await?.len() as u64 } else { 0 },
        })
    }

    fn work(&self, partitions_owned_here: u64) -> Work {
        Work {
            waiting: self.backlog.events,
            oldest_waiting_ms: self.backlog.oldest.map(duration_millis),
            dead_letters: self.dead_letters,
            quarantined: self.quarantined,
            backends: self.ownership.members,
            partitions: self.ownership.partitions,
            partitions_owned: self.ownership.owned,
            partitions_owned_here,
        }
    }

    fn notices(&self, context: &Context) -> Vec<Notice> {
        let checks = doctor::judge_work(&context.config(), self.ownership, &self.backlog, self.dead_letters);
        let worth_attention = checks.into_iter().filter(|finding| finding.status > Status::Pass);
        let mut notices: Vec<_> = worth_attention
            .map(|finding| Notice {
                status: finding.status,
                found: finding.found,
                advice: finding.advice.unwrap_or_default(),
            })
            .collect();
        if self.unconfirmed > 0 {
            notices.push(Notice {
                status: Status::Warning,
                found: format!("{} may still handle events of a paused feature", count(self.unconfirmed, "backend")),
                advice: "wait a moment: each backend confirms a pause once it begins no more attempts".to_owned(),
            });
        }
        notices
    }
}

impl Work {
    fn oldest(&self) -> String {
        self.oldest_waiting_ms.map_or("–".to_owned(), |age| duration(Duration::from_millis(age)))
    }
}

/// The notice that Redis says nothing.
fn silent(error: &InboxError) -> Notice {
    Notice {
        status: Status::Failure,
        found: format!("Redis cannot be used ({}): {error}", error.reason()),
        advice: "bring Redis back. Until then events are answered 503, and Envoy retries each for up to 20 s"
            .to_owned(),
    }
}

/// The notices about recent answers of the ingest to events that it should have stored.
fn answers(unproven: u64, unavailable: u64) -> Vec<Notice> {
    let mut notices = Vec::new();
    if unproven > 0 {
        notices.push(Notice {
            status: Status::Failure,
            found: format!("{} of the last 5 minutes had an unknown proof", count(unproven, "request")),
            advice: "set `ingest.proof` to the proof with which the filter was published".to_owned(),
        });
    }
    if unavailable > 0 {
        notices.push(Notice {
            status: Status::Warning,
            found: format!("{} of the last 5 minutes could not be stored at once", count(unavailable, "request")),
            advice: "look at the log: the field `reason` says why. Envoy retries each for up to 20 s".to_owned(),
        });
    }
    notices
}
