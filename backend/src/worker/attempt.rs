//! Makes one attempt for one event, and stores what follows from it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Work, backoff,
    conclusion::{Conclusion, age, conclude},
    lanes::Task,
    until_answered::until_answered,
};
use crate::{
    handler::HandlerError,
    inbox::{Entry, Handled, Lease, LeaseLost},
    telemetry::FailureLabels,
    traces::Span,
};

mod contained;

/// How work on an event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The attempt succeeded. The event has yet to leave the inbox.
    Handled(Handled),
    /// The event is no longer in the inbox.
    Gone,
    /// The next attempt is due after this time.
    Waits(Duration),
    /// The partition is being given back, and the attempt has not begun. The event stays in the
    /// inbox.
    Stopped,
    /// The feature was paused before the attempt began. The event stays next in its lane until the
    /// feature resumes.
    Paused,
}

/// Makes an attempt if the event is due, and stores what follows if it fails.
pub(super) async fn work_on(
    work: &Work,
    lease: &Lease,
    task: Task,
    stop: &CancellationToken,
) -> Result<End, LeaseLost> {
    let (entry, event) = match task.loaded {
        Some(loaded) => *loaded,
        None => {
            let Some(entry) = until_answered(|| lease.entry(task.id)).await? else { return Ok(End::Gone) };
            // The same entry was parsed when it was first read. If it has changed, start over.
            let Ok(event) = entry.event() else { return Err(LeaseLost) };
            (entry, event)
        }
    };
    if !task.has_waited
        && let Some(wait) = entry.due.and_then(|due| due.duration_since(SystemTime::now()).ok())
    {
        return wait_until_due(work, lease, &entry, wait).await;
    }
    let span = tracing::info_span!("event", event_key = event.key.as_str());
    async {
        let permits = work.permits.acquire(event.name.feature);
        let Some(Some(permits)) = stop.run_until_cancelled(permits).await else { return Ok(End::Stopped) };
        // The feature may have been paused while this event waited for the permits.
        if work.paused.borrow().features.contains(&event.name.feature) {
            return Ok(End::Paused);
        }
        let begun = Instant::now();
        let span =
            Span::attempt(entry.origin(SystemTime::now()), entry.attempts.saturating_add(1), event.name, &event.key);
        let handled = contained::attempt(work, &event, &span).await;
        span.end(handled.as_ref().err().map(|error| error.code));
        drop(permits);
        let took = begun.elapsed();
        match handled {
            Ok(outcome) => {
                tracing::info!(outcome, attempts = entry.attempts.saturating_add(1), ?took, "{}", work.sink.did());
                Ok(End::Handled(lease.handled(&entry, &event.key, outcome, took)))
            }
            Err(error) => store_failure(work, lease, &entry, error, took).await,
        }
    }
    .instrument(span)
    .await
}

/// Lets an event wait until it is due.
///
/// A due time further ahead than the longest back-off comes from a wrong clock: either the one that
/// wrote it was ahead, or this one is behind. Such a time is replaced in Redis, so that the next
/// owner does not wait for it again.
async fn wait_until_due(work: &Work, lease: &Lease, entry: &Entry, wait: Duration) -> Result<End, LeaseLost> {
    let longest = backoff::longest(&work.settings);
    if wait <= longest {
        return Ok(End::Waits(wait));
    }
    tracing::warn!(
        entry = %entry.id, ?wait, ?longest,
        "the next attempt is due later than the longest back-off, because a clock is or was wrong: wait shortened"
    );
    until_answered(|| lease.retry(entry.id, entry.attempts, SystemTime::now() + longest, &entry.failures)).await?;
    Ok(End::Waits(longest))
}

async fn store_failure(
    work: &Work,
    lease: &Lease,
    entry: &Entry,
    error: HandlerError,
    took: Duration,
) -> Result<End, LeaseLost> {
    let HandlerError { code, detail, retry } = error;
    let labels = FailureLabels { code };
    let age = age(SystemTime::now(), entry.received_at, entry.id.added_at());
    let now = SystemTime::now();
    let conclusion = conclude(&work.settings, retry, entry.attempts, age);
    let attempts = conclusion.attempts();
    let failures = match conclusion {
        Conclusion::Defer { .. } => entry.failures.and_deferred(code, &detail, now, took),
        _ => entry.failures.and(code, &detail, now, took),
    };
    if let Conclusion::DeadLetter { .. } = conclusion {
        tracing::error!(code, attempts, "dead letter: {detail}");
        until_answered(|| lease.dead_letter(entry, code, &detail, attempts, &failures)).await?;
        work.metrics.dead_letters.get_or_create(&labels).inc();
        return Ok(End::Gone);
    }
    let delay = backoff::delay(&work.settings, attempts, retry);
    if let Conclusion::Retry { .. } = conclusion {
        tracing::warn!(code, attempts, ?delay, "attempt failed, waiting for retry: {detail}");
    } else {
        tracing::debug!(code, ?delay, "attempt deferred: {detail}");
    }
    work.metrics.retries.get_or_create(&labels).inc();
    until_answered(|| lease.retry(entry.id, attempts, SystemTime::now() + delay, &failures)).await?;
    Ok(End::Waits(delay))
}
