//! Takes this process' share of the partitions: as many as each gets when they are shared out evenly over those at work.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{self, JoinSet},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Work, partition, pauses};
use crate::inbox::{Inbox, InboxError};

/// The partitions that are ours.
struct Share {
    inbox: Inbox,
    work: Arc<Work>,
    /// Our name among the processes at work.
    member: String,
    /// The task that works on each partition that we own, and what stops it.
    owned: HashMap<u32, (task::Id, CancellationToken)>,
    ended: JoinSet<()>,
}

/// Works on our share until `shutdown` is cancelled, and until what is then in progress is finished.
pub(super) async fn run(inbox: Inbox, work: Arc<Work>, shutdown: CancellationToken) {
    let member = format!("{:016x}", fastrand::u64(..));
    tracing::info!(member, "at work");
    let watching = pauses::watch(inbox.clone(), Arc::clone(&work), member.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let mut share = Share { inbox, work, member, owned: HashMap::new(), ended: JoinSet::new() };
    while !shutdown.is_cancelled() {
        if let Err(error) = share.even_out(&shutdown).await {
            tracing::warn!(reason = error.reason(), "cannot see to the partitions: {error}");
        }
        // Jitter, so that several processes do not ask for the same partitions at the same time.
        let pause = share.work.settings.lease.div_f64(4.0).mul_f64(0.5 + fastrand::f64() / 2.0);
        share.wait(pause, &shutdown).await;
    }
    if let Err(error) = share.inbox.leave(&share.member).await {
        tracing::warn!(reason = error.reason(), "cannot say that we work no more: {error}");
    }
    while share.ended.join_next().await.is_some() {}
}

impl Share {
    async fn even_out(&mut self, shutdown: &CancellationToken) -> Result<(), InboxError> {
        let lease = self.work.settings.lease;
        let attendance = self.inbox.attend(&self.member, lease).await?;
        // After that and before anything is owned: whoever pauses a feature waits for those that attend.
        pauses::learn(&self.inbox, &self.work, &self.member).await?;
        let ours = attendance.share(self.inbox.partitions());
        let stops = self.owned.values().map(|(_, stop)| stop);
        let working: Vec<_> = stops.filter(|stop| !stop.is_cancelled()).collect();
        let mut count = working.len();
        for stop in working.into_iter().take(count.saturating_sub(ours)) {
            stop.cancel();
        }
        let mut others: Vec<_> =
            (0..self.inbox.partitions()).filter(|number| !self.owned.contains_key(number)).collect();
        fastrand::shuffle(&mut others);
        for number in others {
            if count >= ours || shutdown.is_cancelled() {
                break;
            }
            if let Some(owned) = self.inbox.acquire(number, lease).await? {
                let (work, stop) = (Arc::clone(&self.work), shutdown.child_token());
                let task = self.ended.spawn(partition::own(owned, work, stop.clone()));
                self.owned.insert(number, (task.id(), stop));
                count += 1;
            }
        }
        Ok(())
    }

    /// Notes which partitions are ours no more, for that long.
    async fn wait(&mut self, pause: Duration, shutdown: &CancellationToken) {
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = shutdown.cancelled() => return,
                Some(ended) = self.ended.join_next_with_id() => {
                    let ended = ended.map_or_else(|error| error.id(), |(task, ())| task);
                    self.owned.retain(|_, (task, _)| *task != ended);
                }
            }
        }
    }
}
