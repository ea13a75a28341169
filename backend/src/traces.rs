//! Traces: what was done about an event, and how long each step took.
//!
//! The ingest decides for each event whether it is traced (`telemetry.sampling`). The span `store`
//! begins the trace, or continues Envoy's if `telemetry.continue_traces` is set, in which case
//! Envoy has decided. If the event is traced, its entry in the inbox says so: it holds the context
//! of that span, which each attempt reads. An attempt that does not follow at once is a trace of
//! its own, with a link to that span, so that no trace lasts for days.
//!
//! Without the cargo feature `otlp`, nothing is recorded, and every call here is compiled to nothing.

#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
mod nothing;
#[cfg(feature = "otlp")]
mod spans;

#[cfg(not(feature = "otlp"))]
pub use nothing::{Span, start, stop};
#[cfg(feature = "otlp")]
pub use spans::{Span, start, stop};

/// How an attempt belongs to the trace that the event's entry names. Both hold the context of the
/// span `store`, in the form of the header `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The attempt continues the trace.
    Parent(&'a str),
    /// The attempt begins another trace, with a link to the first.
    Link(&'a str),
}

/// The name of the header, and of the field in the application's stream, that carries the context of a
/// span (W3C Trace Context).
pub const HEADER: &str = "traceparent";

/// Returns the identifier of the trace in the context of a span.
pub fn trace_id(context: &str) -> Option<&str> {
    context.strip_prefix("00-")?.get(..32).filter(|id| is_trace_id(id))
}

/// Returns whether a text is the identifier of a trace.
pub fn is_trace_id(text: &str) -> bool {
    is_hex(text, 32)
}

/// Returns whether a text is this many hexadecimal digits, none of them a capital letter.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
