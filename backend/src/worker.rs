//! Works on events: a partition has one owner at a time, a lane is worked on in order, lanes are worked on at once.
//!
//! [`share`] takes this process' share of the partitions, [`partition`] keeps the ownership of one and reads it,
//! [`pauses`] says which features wait, [`lanes`] has each lane's events worked on in their order and takes them out of the inbox, [`attempt`] tries one event
//! once, and [`backoff`] says how long to wait between tries.

use std::sync::Arc;

use envelope::Feature;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config,
    handler::Handlers,
    inbox::{Inbox, Paused},
    sink::Sink,
    telemetry::Metrics,
};

mod attempt;
mod backoff;
mod lanes;
mod partition;
mod pauses;
mod share;
mod until_answered;

/// What all workers share.
pub struct Work {
    settings: config::Worker,
    handlers: Handlers,
    sink: Sink,
    metrics: Arc<Metrics>,
    permits: Permits,
    /// The features that are not worked on now.
    paused: watch::Sender<Paused>,
    /// Held by whoever reads what is paused.
    learning: Mutex<()>,
    /// Cancelled when what runs is not waited for any longer.
    abandoned: CancellationToken,
}

/// How many tries may run at once: in all, and of one feature, so that a slow one leaves some for the others.
struct Permits {
    all: Semaphore,
    features: [Semaphore; 4],
    of_one: usize,
}

impl Work {
    /// Work under these settings.
    pub fn new(settings: &config::Worker, handlers: Handlers, sink: Sink, metrics: Arc<Metrics>) -> Self {
        let (permits, paused) = (Permits::new(settings.parallelism), watch::Sender::default());
        let abandoned = CancellationToken::new();
        Self {
            settings: settings.clone(),
            handlers,
            sink,
            metrics,
            permits,
            paused,
            learning: Mutex::new(()),
            abandoned,
        }
    }

    /// Drops the attempts that run, and gives the leases back at once, so that the next owner repeats them.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }
}

impl Permits {
    fn new(parallelism: usize) -> Self {
        // Three quarters, rounded up.
        let of_one = parallelism - parallelism / 4;
        let features = std::array::from_fn(|_| Semaphore::new(of_one));
        Self { all: Semaphore::new(parallelism), features, of_one }
    }

    async fn of(&self, feature: Feature) -> Option<SemaphorePermit<'_>> {
        self.features[feature as usize].acquire().await.ok()
    }

    async fn of_all(&self) -> Option<SemaphorePermit<'_>> {
        self.all.acquire().await.ok()
    }
}

/// Starts to work on this process' share of the partitions, until `shutdown` is cancelled.
pub fn start(inbox: &Inbox, work: &Arc<Work>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    tasks.spawn(share::run(inbox.clone(), Arc::clone(work), shutdown.clone()));
}
