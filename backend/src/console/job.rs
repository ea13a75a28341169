//! Work that goes on after its page was answered, such as an action on many events. One job of a kind
//! runs at a time. A backend that stops cancels it, and waits for its end; what it has done until then
//! stays done.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
    what: &'static str,
    by: String,
    total: u64,
    done: AtomicU64,
    /// Is cancelled if the job should end early.
    pub(super) cancelled: CancellationToken,
    /// What it did or why it failed, once it has ended.
    ended: Mutex<Option<Result<String, String>>>,
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
    /// What it did or why it failed.
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
        if latest.as_ref().is_some_and(|job| job.state() == State::Running) {
            let advice = "Wait until it has ended, or cancel it.";
            return Err(Failure::new(StatusCode::CONFLICT, format!("A {what} is running already"), advice));
        }
        let job = Arc::new(Job {
            what,
            by: visitor.name.clone(),
            total,
            done: AtomicU64::new(0),
            cancelled: context.stop.child_token(),
            ended: Mutex::default(),
            shown: LogLimit::every(PROGRESS),
        });
        tracing::info!(who = visitor.name, events = total, "{what} started in the console");
        let (working, context) = (work(Arc::clone(&job)), Arc::clone(context));
        *latest = Some(Arc::clone(&job));
        context.clone().tasks.spawn(async move {
            let result = working.await;
            let (Ok(said) | Err(said)) = &result;
            tracing::info!(who = job.by, result = said, "{what} ended");
            *job.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            context.has_changed();
        });
        Ok(Redirect::to(self.page))
    }

    /// Cancels the job that runs, if any, and leads to its page.
    pub(super) fn cancel(&self, visitor: &Visitor) -> Redirect {
        if let Some(job) = self.latest().as_ref().filter(|job| job.state() == State::Running) {
            tracing::info!(who = visitor.name, "{} cancelled in the console", job.what);
            job.cancelled.cancel();
        }
        Redirect::to(self.page)
    }

    /// Returns the job that runs, or the last one.
    pub(super) fn state(&self) -> Option<JobState> {
        let job = self.latest().clone()?;
        let result = job.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(JobState {
            what: job.what,
            by: job.by.clone(),
            done: job.done.load(Ordering::Relaxed),
            total: job.total,
            state: job.state(),
            result: result.map(|(Ok(said) | Err(said))| said),
        })
    }

    fn latest(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Notes that `done` events are done. Returns whether the job should go on.
    pub(super) fn goes_on(&self, context: &Context, done: u64) -> bool {
        self.done.store(done, Ordering::Relaxed);
        if self.shown.allow().is_some() {
            context.has_changed();
        }
        !self.cancelled.is_cancelled()
    }

    fn state(&self) -> State {
        match &*self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            None => State::Running,
            Some(Err(_)) => State::Failed,
            Some(Ok(_)) if self.cancelled.is_cancelled() => State::Cancelled,
            Some(Ok(_)) => State::Completed,
        }
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
