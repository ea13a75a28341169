//! Owns one partition: keeps its lease, and runs the feeder and the lanes of each feature.

use std::{sync::Arc, time::Duration};

use envelope::Feature;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Work, feeder::Feeder, lanes::Lanes, until_answered::until_answered};
use crate::{
    inbox::{Lease, LeaseError, Reader},
    telemetry::ExpiredLabels,
};

/// The longest interval between two removals of expired dead letters and quarantined events.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long a backend waits before it repeats a failed renewal of a lease.
const RENEWAL_PAUSE: Duration = Duration::from_millis(100);
/// The largest number of entries in a batch.
const BATCH: usize = 256;

/// Why the work on a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The attempts in progress were finished, or dropped on purpose. The lease is still valid, or
    /// the partition has moved to another server.
    Done,
    /// The lease was lost, or lanes ended with an error.
    Lost,
}

/// Works on a partition until one of these happens:
/// - `stop` is cancelled. Attempts in progress are finished first.
/// - The lease is lost, or the partition moves to another server. Attempts in progress are dropped.
/// - The work is abandoned. Attempts in progress are dropped.
pub(super) async fn own(lease: Lease, work: Arc<Work>, stop: CancellationToken) {
    let partition = lease.partition();
    tracing::debug!(partition, "partition acquired");
    work.metrics.leases_acquired.inc();
    work.metrics.partitions_owned.inc();
    // Cancelled when the lease may be lost. The lanes are then dropped, whatever they are doing.
    let lost = CancellationToken::new();
    let keeper = AbortOnDropHandle::new(tokio::spawn(keep(lease.clone(), lost.clone())));
    let expiry = AbortOnDropHandle::new(tokio::spawn(expire(lease.clone(), Arc::clone(&work))));
    let ended = tokio::select! {
        finished = lost.run_until_cancelled(run_lanes(&lease, &work, &stop, &lost)) => {
            if finished.is_some() && !lost.is_cancelled() { Ended::Done } else { Ended::Lost }
        }
        () = lease.moved() => Ended::Done,
        () = work.abandoned.cancelled() => Ended::Done,
    };
    drop(keeper);
    drop(expiry);
    work.metrics.partitions_owned.dec();
    match ended {
        // Otherwise the next owner would have to wait until the lease expires.
        Ended::Done => _ = timeout(lease.time_to_live(), until_answered(|| lease.release())).await,
        Ended::Lost => {
            work.metrics.leases_lost.inc();
            tracing::warn!(
                partition,
                "partition given up after its lease was lost: the next owner may repeat attempts that were in progress"
            );
        }
    }
}

/// Runs one feeder, and the lanes of each feature in a task of their own, so that no feature waits
/// for another.
async fn run_lanes(lease: &Lease, work: &Arc<Work>, stop: &CancellationToken, lost: &CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut senders = Vec::with_capacity(Feature::ALL.len());
    let room = Arc::new(Notify::new());
    for feature in Feature::ALL {
        let (sender, batches) = mpsc::channel(1);
        senders.push((feature, sender));
        let mut lanes = Lanes::new(feature, Arc::clone(work), lease.clone(), stop.clone());
        let room = Arc::clone(&room);
        let lost = lost.clone();
        tasks.spawn(async move {
            // Gives the partition up after a lost lease, and after a panic, which leaves the order
            // within the lanes unknown.
            let guard = lost.drop_guard();
            if lanes.run(batches, &room).await.is_ok() {
                _ = guard.disarm();
            }
        });
    }
    let feeder = Feeder {
        reader: Reader::new(lease.clone()),
        limit: work.settings.window.min(BATCH),
        lanes: senders,
        room,
        paused: work.paused.subscribe(),
    };
    let _feeder = AbortOnDropHandle::new(tokio::spawn(feeder.run()));
    while tasks.join_next().await.is_some() {}
}

/// Renews the lease three times during its life. Cancels `lost` when the lease is lost, or has
/// expired by this process's own clock.
async fn keep(lease: Lease, lost: CancellationToken) {
    let interval = lease.time_to_live() / 3;
    let mut expires_at = lease.expires_at();
    let reason = loop {
        sleep(interval.min(expires_at.saturating_duration_since(Instant::now()))).await;
        let requested_at = Instant::now();
        #[cfg(feature = "mutations")]
        crate::mutation::never_expire(&mut expires_at, lease.time_to_live());
        if requested_at >= expires_at {
            break "it was not renewed in time, because Redis did not answer or this process was suspended";
        }
        match timeout_at(expires_at, lease.renew()).await {
            Ok(Ok(())) => expires_at = requested_at + lease.time_to_live(),
            Ok(Err(LeaseError::Lost(_))) => break "it has expired in Redis, or another backend owns the partition",
            Ok(Err(LeaseError::Inbox(error))) => {
                tracing::warn!(
                    partition = lease.partition(),
                    reason = error.reason(),
                    "cannot renew the lease, will retry: {error}"
                );
                sleep(RENEWAL_PAUSE).await;
            }
            Err(_) => break "Redis did not answer in time",
        }
    };
    tracing::warn!(partition = lease.partition(), reason, "lease lost");
    lost.cancel();
}

/// Drops expired dead letters and quarantined events, at once and then at least every hour.
async fn expire(lease: Lease, work: Arc<Work>) {
    while let Ok(expired) = until_answered(|| lease.expire()).await {
        count_expired(&lease, &work, "dead", expired.dead_letters);
        count_expired(&lease, &work, "quarantine", expired.quarantined);
        sleep(EXPIRY_INTERVAL.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

fn count_expired(lease: &Lease, work: &Work, from: &'static str, count: u64) {
    if count == 0 {
        return;
    }
    tracing::error!(
        partition = lease.partition(),
        from,
        count,
        "events dropped: unhandled for longer than `redis.unhandled_retention_days`"
    );
    work.metrics.expired.get_or_create(&ExpiredLabels { from }).inc_by(count);
}
