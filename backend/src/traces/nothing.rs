//! What takes the place of spans in a build without the cargo feature `otlp`.

use envelope::{EventKey, EventName};

use super::Origin;
use crate::{config::Telemetry, http_client::Url, telemetry::Metrics};

/// A step of a trace that is not recorded.
pub struct Span;

/// Says nothing about what a thread does.
pub struct Entered;

/// Does nothing: `config` has made sure that no collector is set.
#[expect(clippy::unnecessary_wraps, reason = "fails in a build that records spans")]
pub fn start(_: &Telemetry, _: &Metrics) -> anyhow::Result<()> {
    Ok(())
}

/// Does nothing.
pub async fn stop() {}

#[allow(missing_docs, reason = "as in a build that records spans, but without an effect")]
impl Span {
    pub fn store(_: &'static str, _: &EventKey, _: Option<&str>) -> Self {
        Self
    }

    pub fn attempt(_: Option<Origin<'_>>, _: u32, _: EventName, _: &EventKey) -> Self {
        Self
    }

    pub fn call(_: &'static str, _: &Url, _: impl FnOnce() -> String) -> Self {
        Self
    }

    pub fn send(_: &str) -> Self {
        Self
    }

    pub fn enter(&self) -> Entered {
        Entered
    }

    pub fn context(&self) -> Option<String> {
        None
    }

    pub fn set<V>(&self, _: &'static str, _: V) {}

    pub fn answered(&self, _: u16) {}

    pub fn end(self, _: Option<&'static str>) {}
}
