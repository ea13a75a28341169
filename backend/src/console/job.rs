//! Work that goes on after its page was answered, such as an action on many events. One job of a kind
//! runs at a time. A backend that stops cancels it, and waits for its end; what it has done until then
//! stays done.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{http::StatusCode, response::Redirect};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Context, access::Visitor, answer::Failure};
use crate::{telemetry::LogLimit, units::number};

/// The jobs of one kind: the one that runs, or the last one.
pub(super) struct Jobs {
    what: &'static str,
    /// The page that shows them.
    page: &'static str,
    latest: Mutex<Option<Arc<Job>>>,
}

/// A job.
pub(super) struct Job {
    /// Is cancelled if the job should end early.
    pub(super) cancelled: CancellationToken,
    state: Mutex<JobState>,
    shown: LogLimit,
}

/// A job, as pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobState {
    /// What the job does.
    pub(super) what: &'static str,
    /// Who started it.
    pub(super) by: String,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) state: State,
    /// What it did or why it failed, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It goes on.
    Running,
    /// It did everything.
    Completed,
    /// It ended early, as asked.
    Cancelled,
    /// It ended early.
    Failed,
}

/// How often open pages show the progress.
const PROGRESS: Duration = Duration::from_secs(1);

impl Jobs {
    pub(super) fn new(what: &'static str, page: &'static str) -> Self {
        Self { what, page, latest: Mutex::default() }
    }

    /// Starts a job on `total` events, unless one of this kind runs, and leads to its page. `work`
    /// returns what it did, or why it failed.
    ///
    /// # Errors
    /// If a job runs already.
    pub(super) fn start<F>(
        &self,
        context: &Arc<Context>,
        total: u64,
        visitor: &Visitor,
        work: impl FnOnce(Arc<Job>) -> F,
    ) -> Result<Redirect, Failure>
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        let what = self.what;
        let mut latest = self.latest();
        if latest.as_ref().is_some_and(|job| job.is_running()) {
            let advice = "Wait until it has ended, or cancel it.";
            return Err(Failure::new(StatusCode::CONFLICT, format!("A {what} is running already"), advice));
        }
        let by = visitor.name.clone();
        tracing::info!(who = by, events = total, "{what} started in the console");
        let job = Arc::new(Job {
            cancelled: context.stop.child_token(),
            state: Mutex::new(JobState { what, by, done: 0, total, state: State::Running, result: None }),
            shown: LogLimit::every(PROGRESS),
        });
        let (working, at_work) = (work(Arc::clone(&job)), Arc::clone(context));
        *latest = Some(Arc::clone(&job));
        context.tasks.spawn(async move {
            job.end(working.await);
            at_work.has_changed();
        });
        Ok(Redirect::to(self.page))
    }

    /// Cancels the job that runs, if any, and leads to its page.
    pub(super) fn cancel(&self, visitor: &Visitor) -> Redirect {
        if let Some(job) = self.latest().as_ref().filter(|job| job.is_running()) {
            tracing::info!(who = visitor.name, "{} cancelled in the console", self.what);
            job.cancelled.cancel();
        }
        Redirect::to(self.page)
    }

    /// Returns the job that runs, or the last one.
    pub(super) fn state(&self) -> Option<JobState> {
        self.latest().as_ref().map(|job| job.state().clone())
    }

    fn latest(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Notes that `done` events are done.
    pub(super) fn has_done(&self, done: u64, context: &Context) {
        self.state().done = done;
        if self.shown.allow().is_some() {
            context.has_changed();
        }
    }

    fn end(&self, result: Result<String, String>) {
        let mut state = self.state();
        state.state = match result {
            Err(_) => State::Failed,
            Ok(_) if self.cancelled.is_cancelled() => State::Cancelled,
            Ok(_) => State::Completed,
        };
        let (Ok(said) | Err(said)) = result;
        tracing::info!(who = state.by, result = said, "{} ended", state.what);
        state.result = Some(said);
    }

    fn is_running(&self) -> bool {
        self.state().is_running()
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobState {
    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// What is going on, in words.
    pub(super) fn words(&self) -> String {
        let Self { what, by, state, result, .. } = self;
        let (done, total) = (number(self.done), number(self.total));
        let result = result.as_deref().unwrap_or_default();
        match state {
            State::Running => format!("A {what}, started by {by}, is running: {done} of {total}"),
            State::Completed => format!("The last {what}, by {by}: {result}"),
            State::Cancelled => format!("The last {what}, by {by}, was cancelled: {result}"),
            State::Failed => format!("The last {what}, by {by}, failed after {done} of {total}: {result}"),
        }
    }
}
