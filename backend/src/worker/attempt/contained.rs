//! Runs a handler and delivers its outcome. Limits the time, and catches panics.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::SystemTime,
};

use tokio::time::{Instant, timeout};

use super::super::Work;
use crate::{
    event::Event,
    handler::{HandlerError, Retry},
    telemetry::{CallLabels, HandledLabels},
    traces::Span,
};

/// Makes one attempt: calls the handler and delivers its outcome. Returns the kind of the outcome. The
/// calls that are made belong to `span`.
///
/// # Errors
/// Returns the error of the handler or of the sink, `panic` if the handler panicked, or
/// `attempt_timeout` if the attempt took longer than `worker.attempt_timeout_ms`. A handler that
/// blocks its thread cannot be timed out.
pub(super) async fn attempt(work: &Work, event: &Event, span: &Span) -> Result<&'static str, HandlerError> {
    let attempt = async {
        let outcome = work.handlers.handle(event).await?;
        let kind = outcome.kind();
        if let Some(outcome) = outcome.into_deliverable() {
            let begun = Instant::now();
            let delivered = work.sink.deliver(event, outcome).await;
            let code = delivered.as_ref().map_or_else(|error| error.code, |()| "ok");
            work.metrics.sink_seconds.get_or_create(&CallLabels { code }).observe(begun.elapsed().as_secs_f64());
            delivered?;
        }
        Ok(kind)
    };
    let mut attempt = pin!(attempt);
    // Unwind safe, because a panic drops the future and everything that it left half done.
    let attempt = poll_fn(|context| {
        let _entered = span.enter();
        catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    });
    let kind = match timeout(work.settings.attempt_timeout, attempt).await {
        Ok(done) => done?,
        Err(_) => return Err(timed_out()),
    };
    work.metrics.handled.get_or_create(&HandledLabels::new(event.name, kind)).inc();
    let end_to_end = SystemTime::now().duration_since(event.received_at).unwrap_or_default();
    work.metrics.end_to_end_seconds.observe(end_to_end.as_secs_f64());
    Ok(kind)
}

fn panicked() -> HandlerError {
    HandlerError { code: "panic", detail: "the handler panicked".to_owned(), retry: Retry::Later }
}

fn timed_out() -> HandlerError {
    let detail = "the attempt took longer than `worker.attempt_timeout_ms`".to_owned();
    HandlerError { code: "attempt_timeout", detail, retry: Retry::Later }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        config::Config,
        handler::{FeatureHandler, Handlers, Outcome},
        partner_api::PartnerApi,
        sink::Sink,
        telemetry::Metrics,
    };

    const BODY: &str = r#"{"eventName":"case.extraction.completed",
        "payload":{"caseId":"a","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;

    struct Panics;

    #[async_trait]
    impl FeatureHandler for Panics {
        async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
            panic!("a bug in a handler");
        }
    }

    struct Hangs;

    #[async_trait]
    impl FeatureHandler for Hangs {
        async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
            std::future::pending().await
        }
    }

    async fn error_of(handler: impl FeatureHandler + 'static) -> HandlerError {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"\n").unwrap();
        let config = Config::load(Some(file.path())).unwrap();
        let api = PartnerApi::new(&config.partner_api).unwrap();
        let event = Event::parse(BODY.as_bytes(), SystemTime::now()).unwrap();
        let handlers = Handlers::standard(&api, &config.handler).with(event.name, Arc::new(handler));
        let work = Work::new(&config.worker, handlers, Sink::Log, Arc::new(Metrics::default()));
        let span = Span::attempt(None, 1, event.name, &event.key);
        attempt(&work, &event, &span).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_fails_the_attempt() {
        let error = error_of(Panics).await;
        assert_eq!((error.code, error.retry), ("panic", Retry::Later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_timed_out() {
        let error = error_of(Hangs).await;
        assert_eq!((error.code, error.retry), ("attempt_timeout", Retry::Later));
    }
}
