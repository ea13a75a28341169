//! The page Quarantine: undocumented events, and their readmission.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension, Form, Json,
    extract::{State, rejection::FormRejection},
    response::{Redirect, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    access::Visitor,
    answer::{Failure, Frame, html},
    job::JobState,
};
use crate::{
    inbox::quarantine::{Quarantined, Readmitted},
    time::to_millis,
    units::{count, duration},
};

/// What the page shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quarantine {
    /// The moment that the page shows, by the clock of Redis. A readmission leaves alone what arrives
    /// later.
    until_ms: u64,
    /// How many events are in quarantine.
    total: u64,
    /// Some of them.
    events: Vec<Row>,
    /// The readmission that runs, or the last one.
    job: Option<JobState>,
}

/// An event in quarantine.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    event_key: String,
    /// As it was sent, but at most 80 characters; `None` if it cannot be read.
    event_name: Option<String>,
    received_at_ms: u64,
    /// Whether this version of the backend knows the event, so that it can be readmitted.
    known: bool,
}

/// How many events the page shows.
const SHOWN: usize = 100;
/// How much of a name is shown. A stranger can send any name.
const MAX_NAME: usize = 80;

#[derive(Template)]
#[template(path = "quarantine.html")]
struct Page {
    frame: Frame,
    view: Quarantine,
}

/// The form of a readmission: what was previewed.
#[derive(Deserialize)]
pub(super) struct Previewed {
    until_ms: u64,
    total: u64,
}

pub(super) async fn page(
    State(context): State<Arc<Context>>,
    Extension(frame): Extension<Frame>,
) -> Result<Response, Failure> {
    Ok(html(&Page { frame, view: Quarantine::read(&context).await? }))
}

pub(super) async fn json(State(context): State<Arc<Context>>) -> Result<Json<Quarantine>, Failure> {
    Ok(Json(Quarantine::read(&context).await?))
}

/// Starts the readmission of the events that were previewed.
pub(super) async fn readmit(
    State(context): State<Arc<Context>>,
    Extension(visitor): Extension<Visitor>,
    form: Result<Form<Previewed>, FormRejection>,
) -> Result<Redirect, Failure> {
    let Previewed { until_ms, total } = form?.0;
    let at_work = Arc::clone(&context);
    context.readmissions.start(&context, "readmission", total, &visitor, |job| async move {
        let report = |done: &Readmitted| {
            if job.goes_on(&at_work, done.total()) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let readmitted = at_work.inbox.readmit_until(until_ms, report).await;
        readmitted.map(|readmitted| readmitted.to_string()).map_err(|error| error.to_string())
    })?;
    Ok(Redirect::to("/quarantine"))
}

/// Cancels the readmission.
pub(super) async fn cancel(State(context): State<Arc<Context>>, Extension(visitor): Extension<Visitor>) -> Redirect {
    context.readmissions.cancel(&visitor);
    Redirect::to("/quarantine")
}

impl Quarantine {
    async fn read(context: &Context) -> Result<Self, Failure> {
        let preview = context.inbox.preview_quarantine(&context.config(), SHOWN).await?;
        Ok(Self {
            until_ms: preview.until_ms,
            total: preview.total,
            events: preview.first.iter().map(Row::of).collect(),
            job: context.readmissions.latest(),
        })
    }

    fn count(&self) -> String {
        count(self.total, "event")
    }

    fn is_running(&self) -> bool {
        self.job.as_ref().is_some_and(JobState::is_running)
    }
}

impl Row {
    fn of(event: &Quarantined) -> Self {
        let shown = |name: String| name.chars().take(MAX_NAME).collect();
        Self {
            event_key: event.key.clone(),
            event_name: event.event_name().map(shown),
            received_at_ms: to_millis(event.received_at),
            known: event.is_known(),
        }
    }

    /// How long before the moment that the page shows the event was received.
    fn age(&self, page: &Quarantine) -> String {
        duration(Duration::from_millis(page.until_ms.saturating_sub(self.received_at_ms)))
    }
}
