//! Handles the stored events. Each partition has one owner at a time. Events of one lane are
//! handled in order, and lanes are handled concurrently.
//!
//! [`share`] acquires this backend's share of the partitions, [`partition`] keeps the lease on one
//! of them, [`feeder`] reads its entries, and [`lanes`] schedules them. [`attempt`] makes one
//! attempt for one event, [`conclusion`] says what follows from a failed attempt, and [`backoff`]
//! how long to wait before the next one. [`pauses`] learns which features are paused.

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
mod conclusion;
mod feeder;
mod lanes;
mod partition;
mod pauses;
mod share;
mod until_answered;

/// The state that all partitions of this backend share.
pub struct Work {
    settings: config::Worker,
    handlers: Handlers,
    sink: Sink,
    metrics: Arc<Metrics>,
    permits: Permits,
    /// The paused features.
    paused: watch::Sender<Paused>,
    /// Held while the paused features are read from Redis.
    learning: Mutex<()>,
    /// Cancelled when the attempts in progress are to be dropped.
    abandoned: CancellationToken,
}

/// Limits how many attempts run at once: in total, and for each feature, so that a slow feature
/// leaves permits for the others.
struct Permits {
    total: Semaphore,
    features: [Semaphore; Feature::ALL.len()],
    per_feature: usize,
}

impl Work {
    /// Returns the shared state of a worker that has acquired no partition yet.
    pub fn new(settings: &config::Worker, handlers: Handlers, sink: Sink, metrics: Arc<Metrics>) -> Self {
        Self {
            settings: settings.clone(),
            handlers,
            sink,
            metrics,
            permits: Permits::new(settings.parallelism),
            paused: watch::Sender::default(),
            learning: Mutex::new(()),
            abandoned: CancellationToken::new(),
        }
    }

    /// Returns the sink.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Drops the attempts in progress and releases the leases at once. The next owner of each
    /// partition repeats the attempts.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }
}

impl Permits {
    fn new(parallelism: usize) -> Self {
        // Three quarters, rounded up.
        let per_feature = parallelism - parallelism / 4;
        let features = std::array::from_fn(|_| Semaphore::new(per_feature));
        Self { total: Semaphore::new(parallelism), features, per_feature }
    }

    /// Waits for the permits of one attempt: one of the feature, then one of the total.
    async fn acquire(&self, feature: Feature) -> Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let of_feature = self.features[feature as usize].acquire().await.ok()?;
        let of_total = self.total.acquire().await.ok()?;
        Some((of_feature, of_total))
    }
}

/// Starts a task that works on this backend's share of the partitions until `shutdown` is
/// cancelled.
pub fn start(inbox: &Inbox, work: &Arc<Work>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    tasks.spawn(share::run(inbox.clone(), Arc::clone(work), shutdown.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_feature_takes_at_most_three_quarters_of_the_permits() {
        for (parallelism, per_feature) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (64, 48)] {
            let permits = Permits::new(parallelism);
            let mut taken = Vec::new();
            for _ in 0..per_feature {
                taken.push(permits.acquire(Feature::Extraction).await.unwrap());
            }
            assert_eq!(permits.features[Feature::Extraction as usize].available_permits(), 0, "{parallelism}");
            assert_eq!(permits.total.available_permits(), parallelism - per_feature, "{parallelism}");
        }
    }
}
