//! Works on events: a partition has one owner at a time, a lane is worked on in order, lanes are worked on at once.
//!
//! [`partition`] takes and keeps the ownership of a partition and hands its events to lanes; [`attempt`] brings one event
//! to its end, however many tries that takes; [`backoff`] says how long to wait between them.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config, handler::Handlers, inbox::Inbox, sink::Sink, telemetry::Metrics};

mod attempt;
mod backoff;
mod partition;

/// What all workers share.
pub struct Work {
    settings: config::Worker,
    handlers: Handlers,
    sink: Sink,
    metrics: Arc<Metrics>,
    permits: Semaphore,
}

impl Work {
    /// Work under these settings.
    pub fn new(settings: &config::Worker, handlers: Handlers, sink: Sink, metrics: Arc<Metrics>) -> Self {
        let permits = Semaphore::new(settings.parallelism);
        Self { settings: settings.clone(), handlers, sink, metrics, permits }
    }
}

/// Starts to work on every partition that has no owner, until `shutdown` is cancelled.
pub fn start(inbox: &Inbox, work: &Arc<Work>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    for number in 0..inbox.partitions() {
        tasks.spawn(partition::run(number, inbox.clone(), Arc::clone(work), shutdown.clone()));
    }
}
