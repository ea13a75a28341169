//! The page Quarantine: undocumented events, and their readmission.

use std::{sync::Arc, time::SystemTime};

use askama::Template;
use axum::response::{Redirect, Response};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    answer::{Asked, Failure, Frame, Sent},
    job::JobState,
};
use crate::{
    events::{self, Filter, Readmitted, State, Walk},
    inbox::{Kept, Order, Quarantined},
    time::{as_millis, from_millis},
    units::{count, duration},
};

/// What the page shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quarantine {
    /// The moment that the page shows, by the clock of Redis. A readmission leaves alone what arrives
    /// later.
    #[serde(rename = "untilMs", serialize_with = "as_millis")]
    until: SystemTime,
    /// How many events are in quarantine.
    total: u64,
    /// The oldest of them.
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
    #[serde(rename = "receivedAtMs", serialize_with = "as_millis")]
    received_at: SystemTime,
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

pub(super) async fn show(Asked { context, frame }: Asked) -> Result<Response, Failure> {
    let page = Page { view: Quarantine::read(&context).await?, frame };
    Ok(page.frame.show(&page, &page.view))
}

/// Starts the readmission of the events that were previewed.
pub(super) async fn readmit(Asked { context, frame }: Asked, Sent(form): Sent<Previewed>) -> Result<Redirect, Failure> {
    let Previewed { until_ms, total } = form;
    let at_work = Arc::clone(&context);
    context.readmissions.start(&context, total, &frame.visitor, |job| async move {
        let filter = Filter::default().before(from_millis(until_ms));
        let report = |done: &Readmitted| job.has_done(done.total(), &at_work);
        let readmitted = events::readmit(&at_work.inbox, filter, &job.cancelled, report).await;
        readmitted.map(|readmitted| readmitted.to_string()).map_err(|error| error.to_string())
    })
}

/// Cancels the readmission.
pub(super) async fn cancel(Asked { context, frame }: Asked) -> Redirect {
    context.readmissions.cancel(&frame.visitor)
}

impl Quarantine {
    async fn read(context: &Context) -> Result<Self, Failure> {
        let inbox = &context.inbox;
        let until = inbox.examined(&context.config()).slowest_clock().await?;
        let total = inbox.quarantined_before(until).await?;
        let filter = Filter { state: Some(State::Quarantined), until: Some(until), ..Filter::default() };
        let mut walk = Walk::new(inbox, &filter, Order::OldestFirst, None, SHOWN);
        let mut events = Vec::new();
        while events.len() < SHOWN
            && let Some(stored) = walk.next().await?
        {
            if let Kept::Quarantined(event) = &stored.what {
                events.push(Row::of(event));
            }
        }
        Ok(Self { until, total, events, job: context.readmissions.state() })
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
            received_at: event.received_at,
            known: event.is_known(),
        }
    }

    /// How long before the moment that the page shows the event was received.
    fn age(&self, page: &Quarantine) -> String {
        duration(page.until.duration_since(self.received_at).unwrap_or_default())
    }
}
