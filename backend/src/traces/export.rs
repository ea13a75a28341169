//! Exports spans to a collector, by OTLP over HTTP. A thread of its own sends them in batches. Spans
//! that the collector does not take, or not fast enough, are dropped and counted.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
    },
};
use prometheus_client::metrics::counter::Counter;

use crate::{config::Telemetry, http_client, telemetry::LogLimit};

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
    log: Arc<LogLimit>,
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
}

/// Returns what records all spans and exports them to `url`.
pub(super) fn provider(url: &str, settings: &Telemetry, dropped: Counter) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(url);
    let exporter = exporter.with_http_client(http_client::blocking(settings.otlp_timeout)?);
    let next = exporter.with_timeout(settings.otlp_timeout).build()?;
    let queue = Queue { waiting: Arc::default(), dropped, log: Arc::new(LogLimit::every(LOG_INTERVAL)) };
    let exporter = Counted { queue: queue.clone(), next };
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

impl Queue {
    /// Counts spans that are lost.
    fn lose(&self, count: usize, reason: impl Display) {
        self.dropped.inc_by(count as u64);
        if let Some(suppressed) = self.log.allow() {
            tracing::warn!(suppressed, "spans are lost: {reason}");
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.next.on_end(span);
        } else {
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue.lose(1, format_args!("{QUEUE} wait already, since the collector takes them too slowly"));
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
            self.queue.lose(count, format_args!("the collector does not take them: {error}"));
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
