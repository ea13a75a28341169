//! Acquires this backend's share of the partitions, and gives back what exceeds it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{self, JoinSet},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Work, partition, pauses};
use crate::inbox::{Inbox, InboxError};

mod plan;

use plan::{Holding, Plan};

/// The partitions of this backend.
struct Share {
    inbox: Inbox,
    work: Arc<Work>,
    /// The random name under which this backend is registered.
    member: String,
    /// Whether this backend may be registered.
    is_registered: bool,
    owned: HashMap<u32, Owned>,
    tasks: JoinSet<()>,
}

/// A partition that this backend owns.
struct Owned {
    task: task::Id,
    /// Cancelled when the partition is to be given back.
    stop: CancellationToken,
}

/// Works on this backend's share until `shutdown` is cancelled, then finishes the attempts in
/// progress.
pub(super) async fn run(inbox: Inbox, work: Arc<Work>, shutdown: CancellationToken) {
    let member = format!("{:016x}", fastrand::u64(..));
    tracing::info!(member, "worker started");
    let watching = pauses::watch(inbox.clone(), Arc::clone(&work), member.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let mut share = Share { inbox, work, member, is_registered: false, owned: HashMap::new(), tasks: JoinSet::new() };
    while !shutdown.is_cancelled() {
        if let Err(error) = share.balance(&shutdown).await {
            tracing::warn!(reason = error.reason(), "cannot balance the partitions, will retry: {error}");
        }
        // Jitter, so that several backends do not ask for the same partitions at the same time.
        let pause = share.work.settings.lease.div_f64(4.0).mul_f64(0.5 + fastrand::f64() / 2.0);
        share.wait(pause, &shutdown).await;
    }
    if let Err(error) = share.inbox.leave(&share.member).await {
        tracing::warn!(
            reason = error.reason(),
            "cannot deregister: other backends take over this share only when the registration expires: {error}"
        );
    }
    while share.tasks.join_next().await.is_some() {}
}

impl Share {
    /// Takes this backend's share of the partitions, unless a newer format excludes this backend.
    async fn balance(&mut self, shutdown: &CancellationToken) -> Result<(), InboxError> {
        if !self.inbox.is_excluded() {
            self.take_share(shutdown).await?;
        }
        // A partition that refuses the lease may have shown it just now.
        if self.inbox.is_excluded() {
            self.withdraw().await?;
        }
        Ok(())
    }

    /// Gives back all partitions, and deregisters, so that the other backends take over at once.
    async fn withdraw(&mut self) -> Result<(), InboxError> {
        for owned in self.owned.values() {
            owned.stop.cancel();
        }
        if self.is_registered {
            self.inbox.leave(&self.member).await?;
            self.is_registered = false;
            tracing::warn!("a newer format excludes this backend: other backends take over its share");
        }
        Ok(())
    }

    /// Gives back the partitions that exceed the share, and acquires those that are missing.
    async fn take_share(&mut self, shutdown: &CancellationToken) -> Result<(), InboxError> {
        self.is_registered = true;
        let attendance = self.inbox.attend(&self.member, self.work.settings.lease).await?;
        // This comes after `attend` and before any partition is acquired, because `backend pause`
        // waits for the confirmation of every registered backend.
        pauses::learn(&self.inbox, &self.work, &self.member).await?;
        let partitions = self.inbox.partitions();
        let holdings = self.owned.iter().map(|(partition, owned)| (*partition, owned.holding())).collect();
        let Plan { give_back, mut candidates, mut missing } =
            Plan::new(attendance.share(partitions), partitions, &holdings);
        for partition in give_back {
            if let Some(owned) = self.owned.get(&partition) {
                owned.stop.cancel();
            }
        }
        fastrand::shuffle(&mut candidates);
        for partition in candidates {
            if missing == 0 || shutdown.is_cancelled() || self.inbox.is_excluded() {
                break;
            }
            missing -= usize::from(self.acquire(partition, shutdown).await?);
        }
        Ok(())
    }

    /// Starts to work on a partition, and returns whether it was free.
    async fn acquire(&mut self, partition: u32, shutdown: &CancellationToken) -> Result<bool, InboxError> {
        let Some(lease) = self.inbox.acquire(partition, self.work.settings.lease).await? else { return Ok(false) };
        let stop = shutdown.child_token();
        let task = self.tasks.spawn(partition::own(lease, Arc::clone(&self.work), stop.clone()));
        self.owned.insert(partition, Owned { task: task.id(), stop });
        Ok(true)
    }

    /// Waits for `pause`. Meanwhile forgets the partitions that are no longer owned.
    async fn wait(&mut self, pause: Duration, shutdown: &CancellationToken) {
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = shutdown.cancelled() => return,
                Some(ended) = self.tasks.join_next_with_id() => {
                    let ended = ended.map_or_else(|error| error.id(), |(task, ())| task);
                    self.owned.retain(|_, owned| owned.task != ended);
                }
            }
        }
    }
}

impl Owned {
    fn holding(&self) -> Holding {
        if self.stop.is_cancelled() { Holding::GivingBack } else { Holding::Working }
    }
}
