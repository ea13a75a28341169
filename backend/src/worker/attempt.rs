//! Brings one event to its end: completed, or buried as a dead letter.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Work, backoff, until_answered::until_answered};
use crate::{
    config,
    event::Event,
    handler::{HandlerError, Retry},
    inbox::{Entry, EntryId, Lease, LeaseLost},
    telemetry::{FailureLabels, HandledLabels},
};

/// How working on an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was handled, and is to leave the inbox.
    Handled(EntryId),
    /// The event is out of the inbox.
    Gone,
    /// It is to be tried, or tried again, after this time.
    Waits(Duration),
    /// We were told to stop before that; the event stays where it is.
    Stopped,
    /// Its feature was paused before that; it is tried once the feature is resumed.
    Paused,
}

/// An event to work on.
pub(super) struct Task {
    pub(super) id: EntryId,
    /// What was read of it, unless it has to be read again.
    pub(super) loaded: Option<Box<(Entry, Event)>>,
    /// Whether it has waited for its retry here, so that it is due whatever the wall clock says.
    pub(super) has_waited: bool,
}

/// Tries once, if it is time, and stores what came of it.
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
            // It was parsed before, so an error means that somebody else changed it.
            let Ok(event) = Event::parse(&entry.body, entry.received_at, entry.backfilled) else {
                return Err(LeaseLost);
            };
            (entry, event)
        }
    };
    if !task.has_waited
        && let Some(wait) = entry.due.and_then(|due| due.duration_since(SystemTime::now()).ok())
    {
        return wait_for(work, lease, &entry, wait).await;
    }
    let span = tracing::info_span!("event", event_key = event.key.as_str());
    async {
        let permits = async { Some((work.permits.of(event.name.feature).await?, work.permits.of_all().await?)) };
        let Some(Some(permits)) = stop.run_until_cancelled(permits).await else { return Ok(End::Stopped) };
        // It may have waited for the permits since its lane was looked at.
        if work.paused.borrow().features.contains(&event.name.feature) {
            return Ok(End::Paused);
        }
        let tried = try_once(work, &event).await;
        drop(permits);
        match tried {
            Ok(()) => Ok(End::Handled(entry.id)),
            Err(error) => conclude(work, lease, &entry, error).await,
        }
    }
    .instrument(span)
    .await
}

/// Lets an event wait until it is due. A time that lies further ahead than any that this version notes was written by a
/// clock that was ahead, or ours is behind: it is replaced, so that another owner does not wait for it again.
async fn wait_for(work: &Work, lease: &Lease, entry: &Entry, wait: Duration) -> Result<End, LeaseLost> {
    let longest = backoff::longest(&work.settings);
    if wait <= longest {
        return Ok(End::Waits(wait));
    }
    tracing::warn!(entry = %entry.id, ?wait, "the next attempt was set for too far ahead: a clock is or was wrong");
    until_answered(|| lease.retry(entry.id, entry.attempts, SystemTime::now() + longest)).await?;
    Ok(End::Waits(longest))
}

/// Whether an event has had its chance: it is old enough, and was attempted often enough.
fn gives_up(settings: &config::Worker, age: Duration, attempts: u32) -> bool {
    #[cfg(feature = "mutations")]
    if crate::mutation::current() == Some(crate::mutation::Mutation::GiveUpByCount) {
        return attempts >= 24;
    }
    age >= settings.give_up_after && attempts >= settings.min_attempts
}

/// How old the event is: by when it arrived, or by when Redis got its entry if that is longer ago, since the clock of the backend
/// that took it may have been ahead.
fn age_of(received_at: SystemTime, added_at: SystemTime) -> Duration {
    age(received_at).max(age(added_at))
}

/// How long ago that was; zero if the clock was set back since.
fn age(received_at: SystemTime) -> Duration {
    SystemTime::now().duration_since(received_at).unwrap_or_default()
}

/// After a try that failed.
async fn conclude(work: &Work, lease: &Lease, entry: &Entry, error: HandlerError) -> Result<End, LeaseLost> {
    let was_tried = !matches!(error.retry, Retry::Deferred(_));
    let attempts = entry.attempts + u32::from(was_tried);
    let code = FailureLabels { code: error.code };
    if error.retry == Retry::Never
        || (was_tried && gives_up(&work.settings, age_of(entry.received_at, entry.id.added_at()), attempts))
    {
        tracing::error!(code = error.code, attempts, "a dead letter: {}", error.detail);
        until_answered(|| lease.dead_letter(entry.id, error.code, &error.detail, attempts)).await?;
        work.metrics.dead_letters.get_or_create(&code).inc();
        return Ok(End::Gone);
    }
    let delay = backoff::delay(&work.settings, attempts, error.retry);
    if was_tried {
        tracing::warn!(code = error.code, attempts, ?delay, "will be tried again: {}", error.detail);
    } else {
        tracing::debug!(code = error.code, ?delay, "waits: {}", error.detail);
    }
    work.metrics.retries.get_or_create(&code).inc();
    until_answered(|| lease.retry(entry.id, attempts, SystemTime::now() + delay)).await?;
    Ok(End::Waits(delay))
}

/// A handler that panics has failed once, and takes nothing else with it.
async fn try_once(work: &Work, event: &Event) -> Result<(), HandlerError> {
    let attempt = async {
        let outcome = work.handlers.handle(event).await?;
        let kind = outcome.kind();
        if let Some(outcome) = outcome.into_deliverable() {
            work.sink.deliver(event, outcome).await?;
        }
        Ok(kind)
    };
    let failed = |code, detail: &str| HandlerError { code, detail: detail.to_owned(), retry: Retry::Later };
    let mut attempt = pin!(attempt);
    // What a panic leaves half done is dropped with the attempt.
    let attempt = poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(failed("panic", "the handler panicked"))))
    });
    let kind = match timeout(work.settings.attempt_timeout, attempt).await {
        Ok(done) => done?,
        Err(_) => return Err(failed("attempt_timeout", "the try took longer than `worker.attempt_timeout_ms`")),
    };
    work.metrics.handled.get_or_create(&HandledLabels::new(event.name, kind)).inc();
    work.metrics.end_to_end_seconds.observe(age(event.received_at).as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use async_trait::async_trait;
    use envelope::EventName;

    use super::*;
    use crate::{
        config::Config,
        handler::{FeatureHandler, Handlers, Outcome},
        partner_api::PartnerApi,
        sink::Sink,
        telemetry::Metrics,
    };

    struct Panics;

    #[async_trait]
    impl FeatureHandler for Panics {
        async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
            panic!("a mistake in a handler");
        }
    }

    struct Hangs;

    #[async_trait]
    impl FeatureHandler for Hangs {
        async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
            std::future::pending().await
        }
    }

    async fn failure_of(handler: impl FeatureHandler + 'static) -> HandlerError {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"\n").unwrap();
        let config = Config::load(Some(file.path())).unwrap();
        let api = PartnerApi::new(&config.partner_api).unwrap();
        let body = br#"{"eventName":"case.extraction.completed","payload":{"caseId":"a","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
        let event = Event::parse(body, SystemTime::now(), false).unwrap();
        let name: EventName = event.name;
        let handlers = Handlers::standard(&api, &config.handler).with(name, Arc::new(handler));
        let metrics = Arc::new(Metrics::default());
        let work = Work::new(&config.worker, handlers, Sink::Log, metrics);
        try_once(&work, &event).await.unwrap_err()
    }

    #[test]
    fn an_event_is_given_up_when_it_is_old_and_was_attempted_often_enough() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let mut settings = backoff::tests::settings();
        (settings.give_up_after, settings.min_attempts) = (hours(72), 12);
        for (age, attempts, expected) in [
            (hours(0), 1, false),
            (hours(0), u32::MAX, false),
            (hours(71), 1_000, false),
            (hours(72), 11, false),
            (hours(72), 12, true),
            (Duration::MAX, 11, false),
            (Duration::MAX, 12, true),
        ] {
            assert_eq!(gives_up(&settings, age, attempts), expected, "{age:?}, {attempts}");
        }
        settings.give_up_after = Duration::ZERO;
        assert!(gives_up(&settings, Duration::ZERO, 12), "by the count alone");
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(age(SystemTime::now() + Duration::from_secs(86_400)), Duration::ZERO);
        assert!(age(SystemTime::UNIX_EPOCH) > Duration::from_secs(86_400));
        assert_eq!(age(crate::time::from_millis(u64::MAX)), Duration::ZERO);
    }

    #[test]
    fn an_event_that_arrived_while_a_clock_was_ahead_is_as_old_as_its_entry() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let now = SystemTime::now();
        for (received_at, added_at, least) in [
            (now + hours(26_280), now - hours(73), hours(73)),
            (now - hours(73), now - hours(73), hours(73)),
            // A dead letter that was replayed has a new entry.
            (now - hours(73), now, hours(73)),
            // The clock of Redis was ahead.
            (now - hours(73), now + hours(26_280), hours(73)),
        ] {
            let age = age_of(received_at, added_at);
            assert!((least..least + hours(1)).contains(&age), "{age:?}");
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_has_failed_once() {
        let error = failure_of(Panics).await;
        assert_eq!((error.code, error.retry), ("panic", Retry::Later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_stopped() {
        let error = failure_of(Hangs).await;
        assert_eq!((error.code, error.retry), ("attempt_timeout", Retry::Later));
    }
}
