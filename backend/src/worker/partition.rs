//! Owns a partition: keeps the lease, reads the events, and lets each feature's lanes work on them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use envelope::Feature;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Work, lanes::Lanes, until_answered::until_answered};
use crate::{
    inbox::{Batch, Expired, Lease, LeaseError, LeaseLost, Paused, Reader},
    telemetry::ExpiredLabels,
};

/// How often it is looked for what was apart for too long, at least.
const EXPIRING: Duration = Duration::from_secs(3_600);

/// Works on a partition until `stop` is cancelled and what is then in progress is finished, or until the lease is lost, or
/// another server holds the partition: then it is to be owned anew. What runs when the work is abandoned is dropped.
pub(super) async fn own(lease: Lease, work: Arc<Work>, stop: CancellationToken) {
    let partition = lease.partition();
    tracing::debug!(partition, "owned");
    work.metrics.partitions_owned.inc();
    // Cancelled when the lease may be lost. Dropping the lanes then stops them wherever they are.
    let lost = CancellationToken::new();
    let keeper = tokio::spawn(keep(lease.clone(), lost.clone()));
    let expiring = AbortOnDropHandle::new(tokio::spawn(expire(lease.clone(), Arc::clone(&work))));
    let (finished, given_up) = tokio::select! {
        finished = lost.run_until_cancelled(work_on_all(&lease, &work, &stop, &lost)) => (finished.is_some(), false),
        () = lease.moved() => (false, true),
        () = work.abandoned.cancelled() => (false, true),
    };
    keeper.abort();
    drop(expiring);
    work.metrics.partitions_owned.dec();
    if (finished && !lost.is_cancelled()) || given_up {
        // Without this the next owner would have to wait for the lease to run out.
        let release = until_answered(|| lease.release());
        _ = tokio::time::timeout(lease.time_to_live(), release).await;
    } else {
        tracing::warn!(partition, "the partition has to be owned anew: what was in progress may be repeated");
    }
}

/// One reader, and lanes for each feature, so that none waits for another's.
async fn work_on_all(lease: &Lease, work: &Arc<Work>, stop: &CancellationToken, lost: &CancellationToken) {
    let mut tasks = JoinSet::new();
    let (mut senders, room) = (HashMap::new(), Arc::new(Notify::new()));
    for feature in Feature::ALL {
        let (sender, batches) = mpsc::channel(1);
        senders.insert(feature, sender);
        let mut lanes = Lanes::new(feature, Arc::clone(work), lease.clone(), stop.clone());
        let (room, lost) = (Arc::clone(&room), lost.clone());
        tasks.spawn(async move {
            // A lost lease, or a panic, after which the lanes' order could not be vouched for.
            let guard = lost.drop_guard();
            if lanes.run(batches, &room).await.is_ok() {
                _ = guard.disarm();
            }
        });
    }
    let most = work.settings.window.min(256);
    let reader = AbortOnDropHandle::new(tokio::spawn(read(
        Reader::new(lease.clone()),
        most,
        senders,
        room,
        work.paused.subscribe(),
    )));
    while tasks.join_next().await.is_some() {}
    drop(reader);
}

/// Renews the lease three times in its life, and gives up when it has run out by our own clock.
async fn keep(lease: Lease, lost: CancellationToken) {
    let interval = lease.time_to_live() / 3;
    let mut runs_out = lease.expires_at();
    let why = loop {
        sleep(interval.min(runs_out.saturating_duration_since(Instant::now()))).await;
        let asked = Instant::now();
        #[cfg(feature = "mutations")]
        if crate::mutation::current() == Some(crate::mutation::Mutation::Fencing) {
            runs_out = asked + lease.time_to_live();
        }
        if asked >= runs_out {
            break "it could not be renewed in time, or this process was held up";
        }
        match timeout_at(runs_out, lease.renew()).await {
            Ok(Ok(())) => runs_out = asked + lease.time_to_live(),
            Ok(Err(LeaseError::Lost(LeaseLost))) => break "it has expired in Redis, or another backend holds it",
            Ok(Err(LeaseError::Inbox(error))) => {
                tracing::warn!(partition = lease.partition(), "cannot renew a lease: {error}");
                sleep(Duration::from_millis(100)).await;
            }
            Err(_) => break "Redis did not answer in time",
        }
    };
    tracing::warn!(partition = lease.partition(), why, "a lease is lost");
    lost.cancel();
}

/// Drops what was apart for too long, now and every hour.
async fn expire(lease: Lease, work: Arc<Work>) {
    loop {
        let Ok(dropped) = until_answered(|| lease.expire()).await else { return };
        let Expired { dead_letters, quarantined } = dropped;
        for (from, count) in [("dead", dead_letters), ("quarantine", quarantined)] {
            if count > 0 {
                tracing::error!(
                    partition = lease.partition(),
                    from,
                    count,
                    "dropped: nobody looked after them in time"
                );
                work.metrics.expired.get_or_create(&ExpiredLabels { from }).inc_by(count);
            }
        }
        sleep(EXPIRING.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// How long a read waits for an entry.
const BLOCK: Duration = Duration::from_secs(1);
/// How often the other features are read while one has no room for more. A read that waited for those would hold up
/// that one, once it has room again.
const POLL: Duration = Duration::from_millis(50);

/// Reads ahead by one batch of each feature that is worked on.
async fn read(
    mut reader: Reader,
    most: usize,
    senders: HashMap<Feature, mpsc::Sender<Batch>>,
    room: Arc<Notify>,
    mut paused: watch::Receiver<Paused>,
) {
    loop {
        let unpaused: Vec<_> = {
            let paused = paused.borrow_and_update();
            senders.iter().filter(|(feature, _)| !paused.features.contains(feature)).collect()
        };
        let with_room = unpaused.iter().filter(|(_, sender)| sender.capacity() > 0);
        let wanted: Vec<_> = with_room.map(|(feature, _)| **feature).collect();
        let all_have_room = wanted.len() == unpaused.len();
        let batches = match &wanted[..] {
            [] => Ok(Vec::new()),
            wanted => reader.next(wanted, most, if all_have_room { BLOCK } else { Duration::ZERO }).await,
        };
        match batches {
            Ok(batches) if batches.is_empty() && (!all_have_room || wanted.is_empty()) => {
                let pause = if wanted.is_empty() { Duration::MAX } else { POLL };
                tokio::select! {
                    () = room.notified() => {}
                    _ = paused.changed() => {}
                    () = sleep(pause) => {}
                }
            }
            Ok(batches) => {
                for batch in batches {
                    let Some(sender) = senders.get(&batch.feature) else { continue };
                    if sender.send(batch).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), "cannot read the inbox: {error}");
                sleep(Duration::from_millis(200 + fastrand::u64(..200))).await;
            }
        }
    }
}
