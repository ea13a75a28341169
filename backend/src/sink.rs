//! Delivers outcomes to the configured sink: the partner's application, a stream that it reads, or
//! the log.

use envelope::SigningKey;

use crate::{
    config::{self, SinkKind},
    event::Event,
    handler::{Deliverable, HandlerError},
};

mod body;
mod examination;
mod http;
mod stream;

pub use examination::SinkAnswer;
pub use stream::{StreamError, StreamState, has_password};

use http::HttpSink;
use stream::StreamSink;

/// The configured sink.
pub enum Sink {
    /// Logs that there is an outcome, but not the outcome: it is personal data.
    Log,
    /// Posts each outcome to the partner's application.
    Http(Box<HttpSink>),
    /// Adds each outcome to a stream of the partner's application.
    Stream(Box<StreamSink>),
}

/// Warns if the application cannot verify who sends it outcomes.
pub fn warn_if_unsigned(settings: &config::Sink) {
    if settings.kind == SinkKind::Http && settings.secret.reveal().is_empty() {
        tracing::warn!(
            "`sink.secret` is empty, so outcomes are not signed and the application cannot verify who sent them: set \
             `sink.secret` (or `sink.secret_file`) to `whsec_` followed by 24 to 64 random bytes in base64"
        );
    }
}

impl Sink {
    /// Returns the sink that the settings describe.
    ///
    /// # Errors
    /// If a URL is invalid or the client cannot be built.
    pub fn new(settings: &config::Sink) -> anyhow::Result<Self> {
        Ok(match settings.kind {
            SinkKind::Log => Self::Log,
            SinkKind::Http => Self::Http(Box::new(HttpSink::new(settings)?)),
            SinkKind::Redis => Self::Stream(Box::new(StreamSink::new(settings)?)),
        })
    }

    /// Signs what is posted with these keys from now on.
    pub fn change_keys(&self, keys: Vec<SigningKey>) {
        match self {
            Self::Log | Self::Stream(_) => {}
            Self::Http(sink) => _ = sink.keys.send_replace(keys),
        }
    }

    /// Returns what the log says about an event that was handled.
    pub fn did(&self) -> &'static str {
        match self {
            Self::Log => "handled; not delivered, since `sink.kind` is log",
            Self::Http(_) | Self::Stream(_) => "handled and delivered",
        }
    }

    /// Delivers the outcome of an event.
    ///
    /// # Errors
    /// If the application did not acknowledge it with 2xx, or it is not durable in the stream. The
    /// application may have received it all the same.
    pub async fn deliver(&self, event: &Event, outcome: Deliverable) -> Result<(), HandlerError> {
        match self {
            Self::Log => Ok(()),
            Self::Http(sink) => sink.deliver(event, outcome).await,
            Self::Stream(sink) => sink.deliver(event, outcome).await,
        }
    }
}
