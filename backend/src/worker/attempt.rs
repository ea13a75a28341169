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
    handler::{HandlerError, Outcome, Retry},
    inbox::{Entry, EntryId, Fenced, InboxError, Lease},
    telemetry::FailureLabels,
};

/// How working on an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The event is out of the inbox.
    DealtWith,
    /// It is to be tried, or tried again, after this time.
    Waits(Duration),
    /// We were told to stop before that; the event stays where it is.
    Stopped,
    /// The partition is not ours any more.
    Fenced,
}

/// An event to work on.
pub(super) struct Task {
    pub(super) id: EntryId,
    /// What was read of it, unless it has to be read again.
    pub(super) loaded: Option<Box<(Entry, Event)>>,
}

/// Tries once, if it is time, and stores what came of it.
pub(super) async fn work_on(work: &Arc<Work>, lease: &Lease, task: Task, stop: &CancellationToken) -> End {
    let (entry, event) = match task.loaded {
        Some(loaded) => *loaded,
        None => {
            let Some(entry) = store(|| lease.entry(task.id)).await else { return End::DealtWith };
            // It was read before, or it would have been buried.
            let Ok(event) = Event::parse(&entry.body, entry.received_at, entry.missed) else { return End::Fenced };
            (entry, event)
        }
    };
    if let Some(wait) = entry.due.and_then(|due| due.duration_since(SystemTime::now()).ok()) {
        return End::Waits(wait);
    }
    let span = tracing::info_span!("event", event_key = event.key.as_str());
    async {
        let permits = async { Some((work.permits.of(event.name.feature).await?, work.permits.of_all().await?)) };
        let Some(Some(permits)) = stop.run_until_cancelled(permits).await else { return End::Stopped };
        let event = Arc::new(event);
        let tried = try_once(work, &event).await;
        drop(permits);
        conclude(work, lease, &entry, &event, tried).await
    }
    .instrument(span)
    .await
}

async fn conclude(
    work: &Arc<Work>,
    lease: &Lease,
    entry: &Entry,
    event: &Event,
    tried: Result<(), HandlerError>,
) -> End {
    let was_tried = !matches!(tried, Err(HandlerError { retry: Retry::NotTried(_), .. }));
    let attempts = entry.attempts + u32::from(was_tried);
    let Err(error) = tried else {
        let completed = store(|| lease.complete(entry.id)).await;
        work.metrics.handled.get_or_create(&event.name.into()).inc();
        return end(completed);
    };
    let code = FailureLabels { code: error.code };
    if error.retry == Retry::Never || (was_tried && attempts >= work.settings.max_attempts) {
        tracing::error!(code = error.code, attempts, "a dead letter: {}", error.detail);
        let buried = store(|| lease.bury(entry.id, error.code, &error.detail, attempts)).await;
        work.metrics.dead_letters.get_or_create(&code).inc();
        return end(buried);
    }
    let delay = backoff::delay(&work.settings, attempts, error.retry);
    if was_tried {
        tracing::warn!(code = error.code, attempts, ?delay, "will be tried again: {}", error.detail);
    } else {
        tracing::debug!(code = error.code, ?delay, "waits: {}", error.detail);
    }
    work.metrics.retries.get_or_create(&code).inc();
    match store(|| lease.retry(entry.id, attempts, SystemTime::now() + delay)).await {
        Ok(()) => End::Waits(delay),
        Err(Fenced) => End::Fenced,
    }
}

/// A task of its own, so that a handler that panics has failed once and takes nothing else with it.
async fn try_once(work: &Arc<Work>, event: &Arc<Event>) -> Result<(), HandlerError> {
    let attempt = {
        let (work, event) = (Arc::clone(work), Arc::clone(event));
        async move {
            let outcome = work.handlers.handle(&event).await?;
            match outcome {
                Outcome::Nothing => Ok(()),
                outcome => work.sink.deliver(&event, &outcome).await,
            }
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
