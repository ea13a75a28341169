//! Spans, with the attributes of OpenTelemetry's semantic conventions for messaging and HTTP.
//! Nothing personal is an attribute: no `externalId`, no result, no URL.

use std::{sync::OnceLock, thread, time::Duration};

use anyhow::Context as _;
use envelope::{EventKey, EventName};
use opentelemetry::{
    Context, ContextGuard, KeyValue, Value,
    trace::{
        Link, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        TracerProvider,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::{sync::oneshot, time::timeout};

use super::{Origin, export, is_hex, is_trace_id};
use crate::{config::Telemetry, http_client::Url, telemetry::Metrics};

/// The code of the error of a step that was cut off.
const CANCELLED: &str = "cancelled";
/// The longest time that the export of the last spans may take.
const LAST_EXPORT: Duration = Duration::from_secs(2);

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Records the spans of this process.
struct Recorder {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// The share of events that are traced, unless Envoy decides it.
    sampling: f64,
    /// Whether Envoy's traces are continued.
    continue_traces: bool,
}

/// A step of a trace. It does nothing if the event is not traced. If it is dropped before it has ended,
/// what it stands for was cut off, so it ends as failed.
pub struct Span(Option<Context>);

/// While it exists, calls of this thread belong to a span.
pub struct Entered(#[expect(dead_code, reason = "dropped to leave the span")] Option<ContextGuard>);

/// Begins to record spans, if the settings name a collector.
///
/// # Errors
/// If the client of the collector cannot be built.
pub fn start(settings: &Telemetry, metrics: &Metrics) -> anyhow::Result<()> {
    let Some(url) = settings.traces_url() else { return Ok(()) };
    let provider = export::provider(&url, settings, metrics.spans_dropped.clone()).context("cannot export traces")?;
    let tracer = provider.tracer("truenroll-edge");
    let (sampling, continue_traces) = (settings.sampling, settings.continue_traces);
    _ = RECORDER.set(Recorder { provider, tracer, sampling, continue_traces });
    Ok(())
}

/// Exports the spans that have ended, within [`LAST_EXPORT`].
pub async fn stop() {
    let Some(recorder) = RECORDER.get() else { return };
    let (done, stopped) = oneshot::channel();
    // On a thread that nobody waits for: the library waits longer while a name is being resolved.
    let thread = thread::Builder::new().spawn(|| done.send(recorder.provider.shutdown_with_timeout(LAST_EXPORT)));
    if thread.is_err() || !matches!(timeout(LAST_EXPORT, stopped).await, Ok(Ok(Ok(())))) {
        tracing::warn!("the last spans were not exported within {LAST_EXPORT:?}");
    }
}

impl Span {
    /// Decides whether an event that has arrived is traced. If so, begins the span of its storage in
    /// `destination`. `parent` is the `traceparent` of the request.
    pub fn store(destination: &'static str, key: &EventKey, parent: Option<&str>) -> Self {
        let Some(recorder) = RECORDER.get() else { return Self(None) };
        let parent = parent.filter(|_| recorder.continue_traces).and_then(parse);
        let is_traced = parent.as_ref().map_or_else(|| fastrand::f64() < recorder.sampling, SpanContext::is_sampled);
        Self(is_traced.then(|| {
            let attributes = vec![
                KeyValue::new("messaging.system", "redis"),
                KeyValue::new("messaging.operation.name", "store"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", destination),
                KeyValue::new("truenroll.event_key", key.to_string()),
            ];
            let span = named(format!("store {destination}"), SpanKind::Producer).with_attributes(attributes);
            let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
            recorder.start(span, &parent)
        }))
    }

    /// Begins an attempt for a traced event.
    pub fn attempt(origin: Option<Origin<'_>>, number: u32, name: EventName, key: &EventKey) -> Self {
        let Some((recorder, origin)) = RECORDER.get().zip(origin) else { return Self(None) };
        let (Origin::Parent(text) | Origin::Link(text)) = origin;
        let Some(store) = parse(text) else { return Self(None) };
        let destination = name.feature.as_str();
        let attributes = vec![
            KeyValue::new("messaging.system", "redis"),
            KeyValue::new("messaging.operation.name", "attempt"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", destination),
            KeyValue::new("truenroll.event_key", key.to_string()),
            KeyValue::new("truenroll.attempt", i64::from(number)),
        ];
        let span = named(format!("attempt {destination}"), SpanKind::Consumer).with_attributes(attributes);
        Self(Some(match origin {
            Origin::Parent(_) => recorder.start(span, &Context::new().with_remote_span_context(store)),
            Origin::Link(_) => recorder.start(span.with_links(vec![Link::with_context(store)]), &Context::new()),
        }))
    }

    /// Begins a call, within the attempt that this thread works on. `template` returns the path of the
    /// URL with placeholders, or an empty string.
    pub fn call(method: &'static str, url: &Url, template: impl FnOnce() -> String) -> Self {
        Self::within_attempt(|| {
            let mut attributes = vec![KeyValue::new("http.request.method", method)];
            attributes.extend(url.host_str().map(|host| KeyValue::new("server.address", host.to_owned())));
            attributes.extend(url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
            let template = template();
            let name = format!("{method} {template}").trim_end().to_owned();
            if !template.is_empty() {
                attributes.push(KeyValue::new("url.template", template));
            }
            named(name, SpanKind::Client).with_attributes(attributes)
        })
    }

    /// Begins to add an outcome to `stream`, within the attempt that this thread works on.
    pub fn send(stream: &str) -> Self {
        Self::within_attempt(|| {
            let attributes = vec![
                KeyValue::new("messaging.system", "redis"),
                KeyValue::new("messaging.operation.name", "send"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", stream.to_owned()),
            ];
            named(format!("send {stream}"), SpanKind::Producer).with_attributes(attributes)
        })
    }

    fn within_attempt(span: impl FnOnce() -> SpanBuilder) -> Self {
        let attempt = Context::map_current(|current| current.has_active_span().then(|| current.clone()));
        Self(RECORDER.get().zip(attempt).map(|(recorder, attempt)| recorder.start(span(), &attempt)))
    }

    /// Lets what this thread does belong to the span, until the returned value is dropped.
    pub fn enter(&self) -> Entered {
        Entered(self.0.clone().map(Context::attach))
    }

    /// Returns the span's context as the value of a `traceparent`.
    pub fn context(&self) -> Option<String> {
        let context = self.0.as_ref()?.span().span_context().clone();
        Some(format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags()))
    }

    /// Adds an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Adds the status of the answer to a call.
    pub fn answered(&self, status: u16) {
        self.set("http.response.status_code", i64::from(status));
    }

    /// Ends the span. `error` is the code of the error if the step failed.
    pub fn end(mut self, error: Option<&'static str>) {
        self.end_now(error);
    }

    /// Ends the span, unless it has ended. Explicitly, because a handler may have kept the context.
    fn end_now(&mut self, error: Option<&'static str>) {
        let Some(context) = self.0.take() else { return };
        if let Some(code) = error {
            context.span().set_attribute(KeyValue::new("error.type", code));
            context.span().set_status(Status::error(""));
        }
        context.span().end();
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end_now(Some(CANCELLED));
    }
}

impl Recorder {
    fn start(&self, span: SpanBuilder, parent: &Context) -> Context {
        parent.with_span(span.start_with_context(&self.tracer, parent))
    }
}

fn named(name: String, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

/// Reads a `traceparent` of version 00, as W3C Trace Context defines it.
fn parse(text: &str) -> Option<SpanContext> {
    let parts: Vec<_> = text.split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { return None };
    if !(is_trace_id(trace) && is_hex(span, 16) && is_hex(flags, 2)) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SpanData, SpanProcessor},
    };

    use super::*;

    /// Keeps the spans that have ended.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Kept {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_span_ends_once_and_as_failed_if_its_step_was_cut_off() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).build();
        let recorder = Recorder { tracer: provider.tracer(""), provider, sampling: 1.0, continue_traces: false };
        let span = || Span(Some(recorder.start(named(String::new(), SpanKind::Internal), &Context::new())));
        span().end(None);
        span().end(Some("a_code"));
        let waits = async |span| {
            std::future::pending::<()>().await;
            Span::end(span, None);
        };
        assert!(timeout(Duration::from_secs(1), waits(span())).await.is_err());
        let ended = kept.0.lock().unwrap();
        let attributes = ended.iter().flat_map(|span| &span.attributes);
        let codes: Vec<_> = attributes.map(|attribute| attribute.value.to_string()).collect();
        assert_eq!(codes, ["a_code", CANCELLED]);
        let failed: Vec<_> = ended.iter().map(|span| span.status == Status::error("")).collect();
        assert_eq!(failed, [false, true, true]);
    }

    #[test]
    fn a_context_is_read_as_it_was_written() {
        for (text, is_sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
        ] {
            let context = parse(text).unwrap();
            assert_eq!(context.is_sampled(), is_sampled);
            let span = Span(Some(Context::new().with_remote_span_context(context)));
            assert_eq!(span.context().as_deref(), Some(text));
        }
        for damaged in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-not hexadecimal-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
