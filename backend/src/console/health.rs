//! The page Health: the checks of `backend doctor`.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Context,
    answer::{Asked, Frame},
};
use crate::{
    config::Config,
    doctor::{self, Check, SinkTest, Status},
};

/// What the page shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Health {
    /// The worst status of all checks.
    status: Status,
    checks: Vec<Check>,
}

/// The latest run of the checks. A run makes calls to the Partner API, so pages that ask at the same
/// time share one.
pub(super) type Latest = Mutex<Option<(Instant, Health)>>;

/// How long a run is shown before the checks run again.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "health.html")]
struct Page {
    frame: Frame,
    view: Health,
}

pub(super) async fn show(Asked { context, frame }: Asked) -> Response {
    let page = Page { view: Health::read(&context).await, frame };
    page.frame.show(&page, &page.view)
}

impl Health {
    async fn read(context: &Context) -> Self {
        let mut latest = context.health.lock().await;
        if let Some((at, health)) = &*latest
            && at.elapsed() < FRESH
        {
            return health.clone();
        }
        let checks = doctor::run(Config::clone(&context.config()), SinkTest::Omitted).await;
        let status = checks.iter().map(|check| check.finding.status).max().unwrap_or(Status::Pass);
        let health = Self { status, checks };
        *latest = Some((Instant::now(), health.clone()));
        health
    }

    /// The result in words.
    fn summary(&self) -> &'static str {
        match self.status {
            Status::Pass => "All checks pass",
            Status::Warning => "It works, but some checks are a warning",
            Status::Failure => "Some checks fail",
        }
    }

    /// The checks, the worst first.
    fn worst_first(&self) -> Vec<&Check> {
        let mut checks: Vec<_> = self.checks.iter().collect();
        checks.sort_by_key(|check| std::cmp::Reverse(check.finding.status));
        checks
    }
}
