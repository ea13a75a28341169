//! A collector of traces: receives spans by OTLP over HTTP, and shows a trace as a tree.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as Outcome},
};
use prost::Message;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::AbortOnDropHandle;

/// A running collector. It stops when dropped.
pub struct Collector {
    port: u16,
    received: Arc<Mutex<Received>>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Recorded>,
    /// The requests, as they came.
    bodies: Vec<Bytes>,
    delay: Duration,
}

/// A span that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// `service.name` of the program that recorded it.
    pub service: String,
    /// What it is.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// The trace and the span itself, as in a `traceparent`: `<trace>-<span>`.
    pub context: (String, String),
    /// The span that it is a part of.
    pub parent: Option<String>,
    /// The contexts of the spans that it is linked to.
    pub links: Vec<(String, String)>,
    /// Its attributes. Numbers are written in decimal digits.
    pub attributes: BTreeMap<String, String>,
    /// Whether it failed.
    pub has_failed: bool,
}

impl Collector {
    /// Starts a collector that answers each request after `delay`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Received { delay, ..Received::default() }));
        let routes = Router::new().route("/v1/traces", post(receive)).layer(DefaultBodyLimit::max(64 << 20));
        let routes = routes.with_state(Arc::clone(&received));
        let server = tokio::spawn(async move {
            _ = axum::serve(listener, routes).await;
        });
        Ok(Self { port, received, _server: AbortOnDropHandle::new(server) })
    }

    /// The value for `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All spans received so far.
    pub fn spans(&self) -> Vec<Recorded> {
        locked(&self.received).spans.clone()
    }

    /// Whether any request contains a text.
    pub fn has_received(&self, text: &str) -> bool {
        let is_in = |body: &Bytes| body.windows(text.len()).any(|window| window == text.as_bytes());
        locked(&self.received).bodies.iter().any(is_in)
    }
}

/// Shows the spans of a trace, each below the span that it is a part of, with its kind and the
/// attributes of these names.
pub fn tree(spans: &[Recorded], trace: &str, attributes: &[&str]) -> String {
    let of_trace: Vec<_> = spans.iter().filter(|span| span.context.0 == trace).collect();
    let mut text = String::new();
    add_below(&mut text, &of_trace, None, 0, attributes);
    text
}

fn add_below(text: &mut String, spans: &[&Recorded], parent: Option<&str>, depth: usize, attributes: &[&str]) {
    for span in spans.iter().filter(|span| span.parent.as_deref() == parent) {
        let kind = span.kind.as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
        let shown = attributes.iter().filter_map(|name| Some(format!(" {name}={}", span.attributes.get(*name)?)));
        let failed = if span.has_failed { " failed" } else { "" };
        _ = writeln!(text, "{:1$}{2} ({kind}){3}{failed}", "", 2 * depth, span.name, shown.collect::<String>());
        add_below(text, spans, Some(&span.context.1), depth + 1, attributes);
    }
}

async fn receive(State(received): State<Arc<Mutex<Received>>>, body: Bytes) -> StatusCode {
    let delay = locked(&received).delay;
    sleep(delay).await;
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else { return StatusCode::BAD_REQUEST };
    let mut received = locked(&received);
    received.bodies.push(body);
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.map(|resource| read(resource.attributes)).unwrap_or_default();
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        received.spans.extend(spans.map(|span| Recorded::new(&service, span)));
    }
    StatusCode::OK
}

impl Recorded {
    fn new(service: &str, span: Span) -> Self {
        let links = span.links.iter().map(|link| (hexadecimal(&link.trace_id), hexadecimal(&link.span_id)));
        Self {
            service: service.to_owned(),
            kind: span.kind(),
            context: (hexadecimal(&span.trace_id), hexadecimal(&span.span_id)),
            parent: (!span.parent_span_id.is_empty()).then(|| hexadecimal(&span.parent_span_id)),
            links: links.collect(),
            has_failed: span.status.as_ref().is_some_and(|status| status.code() == Outcome::Error),
            attributes: read(span.attributes),
            name: span.name,
        }
    }
}

fn read(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let written = |value| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|one| (one.key, written(one.value.and_then(|value| value.value)))).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn locked(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}
