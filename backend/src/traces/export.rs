//! Exports spans to a collector, by OTLP over HTTP. A thread of its own sends them in batches. Spans
//! that the collector does not take, or not fast enough, are dropped and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
    },
};
use prometheus_client::metrics::counter::Counter;

use crate::{config::Telemetry, telemetry::LogLimit, tls};

/// The largest number of spans that wait to be exported or are being exported.
const QUEUE: usize = 2_048;
/// The longest time that a span waits for others to be exported with.
const DELAY: Duration = Duration::from_secs(1);
/// The minimum interval between two log lines about lost spans.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Counts the spans that have ended and are not yet exported. The library's own queue is limited, too,
/// but says nothing about the spans that it drops.
#[derive(Debug, Clone)]
struct Queue {
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

/// Adds spans to the queue, unless it is full.
#[derive(Debug)]
struct Bounded {
    queue: Queue,
    next: BatchSpanProcessor,
}

/// Sends spans, and removes them from the queue.
#[derive(Debug)]
struct Counted {
    queue: Queue,
    next: opentelemetry_otlp::SpanExporter,
    log: LogLimit,
}

/// Returns what records all spans and exports them as `settings` say.
pub(super) fn provider(settings: &Telemetry, dropped: Counter) -> Result<SdkTracerProvider, ExporterBuildError> {
    tls::prepare();
    let url = format!("{}/v1/traces", settings.otlp_endpoint.trim_end_matches('/'));
    let next = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(url).build()?;
    let queue = Queue { waiting: Arc::default(), dropped };
    let exporter = Counted { queue: queue.clone(), next, log: LogLimit::every(LOG_INTERVAL) };
    let limits = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(DELAY).build();
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let next = BatchSpanProcessor::new(exporter, limits);
    let builder = SdkTracerProvider::builder().with_span_processor(Bounded { queue, next });
    // `Span::store` has decided which events are traced.
    Ok(builder.with_sampler(Sampler::AlwaysOn).with_resource(resource).build())
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.next.on_end(span);
        } else {
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.next.export(batch).await;
        self.queue.waiting.fetch_sub(count, Ordering::Relaxed);
        if let Err(error) = &exported {
            self.queue.dropped.inc_by(count as u64);
            if let Some(suppressed) = self.log.allow() {
                tracing::warn!(suppressed, "spans are lost, since the collector does not take them: {error}");
            }
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
