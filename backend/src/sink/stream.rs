//! Adds outcomes to a stream in Redis, from which the application reads them when it wants to.
//!
//! The connection is the sink's own, so a slow server does not delay the inbox.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use redis::Cmd;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{body, examination, http::message_id};
use crate::{
    config,
    event::Event,
    handler::{Deliverable, HandlerError},
    traces::Span,
};

mod error;
mod target;
mod writer;

pub use error::StreamError;
pub use target::{StreamState, has_password};

use target::Target;
use writer::Request;

/// The sink that adds to the application's stream.
pub struct StreamSink {
    target: Arc<Target>,
    /// To the task that adds. It runs in the runtime of the first caller.
    requests: OnceLock<mpsc::Sender<Request>>,
    /// A permit for each KiB of large outcomes in memory: Redis takes an entry as a whole.
    large: Semaphore,
}

/// How many KiB of large outcomes are held in memory at once. A larger one is held alone.
const LARGE_AT_ONCE: u32 = 32 << 10;

impl StreamSink {
    pub(super) fn new(settings: &config::Sink) -> anyhow::Result<Self> {
        Ok(Self {
            target: Arc::new(Target::new(settings)?),
            requests: OnceLock::new(),
            large: Semaphore::new(LARGE_AT_ONCE as usize),
        })
    }

    pub(super) async fn deliver(&self, event: &Event, outcome: Deliverable) -> Result<(), HandlerError> {
        let body = body::write(event, outcome)?;
        let span = Span::send(&self.target.stream);
        let trace = span.context();
        let deliver = async {
            let mut turn = None;
            let body = match body.into_bytes() {
                Ok(bytes) => bytes,
                Err(large) => {
                    let size = u32::try_from(large.len() >> 10).unwrap_or(u32::MAX).min(LARGE_AT_ONCE);
                    turn = self.large.acquire_many(size).await.ok();
                    let take = |whole: &mut Vec<u8>, piece: &[u8]| whole.extend_from_slice(piece);
                    let whole = Vec::with_capacity(large.len());
                    large.inspect(whole, take).await.map_err(|error| body::unreadable(&error))?.into()
                }
            };
            let id = message_id(&event.key);
            let entry = self.target.entry(event.key.as_str(), event.name.as_str(), &id, &body, trace.as_deref());
            drop(body);
            let added = self.add(entry).await;
            drop(turn);
            added.map_err(HandlerError::from)
        };
        let delivered = timeout(self.target.timeout, deliver).await;
        let delivered = delivered.unwrap_or_else(|_| Err(StreamError::Timeout.into()));
        span.end(delivered.as_ref().err().map(|error| error.code));
        delivered
    }

    async fn add(&self, entry: Cmd) -> Result<(), StreamError> {
        let (result, added) = oneshot::channel();
        let requests = self.requests.get_or_init(|| {
            let (requests, received) = mpsc::channel(writer::MAX_BATCH);
            tokio::spawn(writer::run(Arc::clone(&self.target), received));
            requests
        });
        let stopped = || StreamError::Refused("the task that adds outcomes has stopped".to_owned());
        requests
            .send(Request { entry, deadline: Instant::now() + self.target.timeout, result })
            .await
            .map_err(|_| stopped())?;
        added.await.map_err(|_| stopped())?
    }

    /// Finds out whether the stream can be used. Adds nothing.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn examine(&self) -> Result<StreamState, StreamError> {
        timeout(self.target.timeout, self.target.examine()).await.unwrap_or(Err(StreamError::Timeout))
    }

    /// Adds a test, and returns how long it took.
    ///
    /// # Errors
    /// If it was not added, or is not durable.
    pub async fn test(&self) -> Result<Duration, StreamError> {
        let begun = Instant::now();
        let (id, body) = examination::test(SystemTime::now());
        let entry = self.target.entry(&id, examination::TEST_TYPE, &id, body.as_bytes(), None);
        timeout(self.target.timeout, self.add(entry)).await.unwrap_or(Err(StreamError::Timeout))?;
        Ok(begun.elapsed())
    }
}
