//! Brings one event to its end: completed, or buried as a dead letter.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use super::{Work, backoff};
use crate::{
    event::Event,
    handler::{HandlerError, Retry},
    inbox::{Entry, Fenced, InboxError, Lease},
    telemetry::FailureLabels,
};

/// How working on an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The event is out of the inbox.
    DealtWith,
    /// We were told to stop before that; the event stays where it is.
    Stopped,
    /// The partition is not ours any more.
    Fenced,
}

/// Tries until the event is dealt with, and between tries stops when `stop` is cancelled.
pub(super) async fn work_on(
    work: &Arc<Work>,
    lease: &Lease,
    entry: Entry,
    event: Event,
    stop: &CancellationToken,
) -> End {
    let event = Arc::new(event);
    let span = tracing::info_span!("event", event_key = event.key.as_str());
    let mut attempts = entry.attempts;
    let mut due = entry.due;
    async {
        loop {
            if let Some(wait) = due.and_then(|due| due.duration_since(SystemTime::now()).ok())
                && !is_over(sleep(wait), stop).await
            {
                return End::Stopped;
            }
            let Some(Ok(permit)) = until(work.permits.acquire(), stop).await else { return End::Stopped };
            attempts += 1;
            let tried = try_once(work, &event).await;
            drop(permit);

            let Err(error) = tried else {
                let completed = store(|| lease.complete(entry.id)).await;
                work.metrics.handled.get_or_create(&event.name.into()).inc();
                return end(completed);
            };
            let code = FailureLabels { code: error.code };
            if error.retry == Retry::Never || attempts >= work.settings.max_attempts {
                tracing::error!(code = error.code, attempts, "a dead letter: {}", error.detail);
                let buried = store(|| lease.bury(entry.id, error.code, &error.detail, attempts)).await;
                work.metrics.dead_letters.get_or_create(&code).inc();
                return end(buried);
            }
            let delay = backoff::delay(&work.settings, attempts, error.retry);
            let next = SystemTime::now() + delay;
            tracing::warn!(code = error.code, attempts, ?delay, "will be tried again: {}", error.detail);
            work.metrics.retries.get_or_create(&code).inc();
            if store(|| lease.retry(entry.id, attempts, next)).await.is_err() {
                return End::Fenced;
            }
            due = Some(next);
        }
    }
    .instrument(span)
    .await
}

/// A task of its own, so that a handler that panics has failed once and takes nothing else with it.
async fn try_once(work: &Arc<Work>, event: &Arc<Event>) -> Result<(), HandlerError> {
    let attempt = {
        let (work, event) = (Arc::clone(work), Arc::clone(event));
        async move {
            let outcome = work.handlers.handle(&event).await?;
            work.sink.deliver(&event, &outcome).await
        }
    };
    let attempt = AbortOnDropHandle::new(tokio::spawn(attempt.in_current_span()));
    let failed = |code, detail: &str| HandlerError { code, detail: detail.to_owned(), retry: Retry::Later };
    match timeout(work.settings.attempt_timeout, attempt).await {
        Ok(Ok(done)) => done?,
        Ok(Err(_)) => return Err(failed("panic", "the handler panicked")),
        Err(_) => return Err(failed("attempt_timeout", "the try took longer than `worker.attempt_timeout_ms`")),
    }
    work.metrics.delivered.get_or_create(&event.name.into()).inc();
    let age = SystemTime::now().duration_since(event.received_at).unwrap_or_default();
    work.metrics.end_to_end_seconds.observe(age.as_secs_f64());
    Ok(())
}

/// Repeats a command until Redis answers it. Giving up earlier would do the work twice; that
/// the lease runs out meanwhile ends this too, since the partition's tasks are then dropped.
pub(super) async fn store<T, F>(mut command: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, InboxError>>,
{
    let mut pause = Duration::from_millis(50);
    loop {
        match command().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(reason = error.reason(), "Redis will be asked again: {error}"),
        }
        sleep(pause.mul_f64(fastrand::f64())).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

fn end(stored: Result<(), Fenced>) -> End {
    if stored.is_ok() { End::DealtWith } else { End::Fenced }
}

async fn until<T>(work: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    stop.run_until_cancelled(work).await
}

async fn is_over(wait: impl Future<Output = ()>, stop: &CancellationToken) -> bool {
    until(wait, stop).await.is_some()
}
