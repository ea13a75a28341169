//! Owns a partition: takes the lease, keeps it, and hands events to lanes in their order.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Work,
    attempt::{End, store, work_on},
};
use crate::{
    event::{Event, LaneId},
    inbox::{Batch, Entry, EntryId, Inbox, Lease, Reader},
};

/// Takes the partition whenever it has no owner, and works on it while it is ours.
pub(super) async fn run(partition: u32, inbox: Inbox, work: Arc<Work>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match inbox.acquire(partition, work.settings.lease).await {
            Ok(Some(lease)) => own(lease, &work, &shutdown).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(partition, reason = error.reason(), "cannot ask for a partition: {error}"),
        }
        // Jitter, so that several processes do not ask for the same partition at the same time.
        let pause = work.settings.lease.div_f64(4.0).mul_f64(0.5 + fastrand::f64() / 2.0);
        shutdown.run_until_cancelled(sleep(pause)).await;
    }
}

async fn own(lease: Lease, work: &Arc<Work>, shutdown: &CancellationToken) {
    let partition = lease.partition();
    tracing::debug!(partition, "owned");
    work.metrics.partitions_owned.inc();
    // Cancelled when the lease may be lost. Dropping the lanes then stops them wherever they are.
    let lost = CancellationToken::new();
    let keeper = tokio::spawn(keep(lease.clone(), lost.clone()));
    let mut lanes = Lanes::new(Arc::clone(work), lease.clone(), shutdown.clone());
    let finished = lost.run_until_cancelled(lanes.run()).await.is_some();
    drop(lanes);
    keeper.abort();
    work.metrics.partitions_owned.dec();
    if finished && !lost.is_cancelled() {
        // Without this the next owner would have to wait for the lease to run out.
        let release = store(|| lease.release());
        _ = tokio::time::timeout(lease.time_to_live(), release).await;
    } else {
        tracing::warn!(partition, "lost");
    }
}

/// Renews the lease three times in its life, and gives up when it has run out by our own clock.
async fn keep(lease: Lease, lost: CancellationToken) {
    let interval = lease.time_to_live() / 3;
    let mut runs_out = lease.runs_out();
    loop {
        sleep(interval.min(runs_out.saturating_duration_since(Instant::now()))).await;
        let asked = Instant::now();
        match timeout_at(runs_out, lease.renew()).await {
            Ok(Ok(Ok(()))) => runs_out = asked + lease.time_to_live(),
            Ok(Ok(Err(_fenced))) => break,
            Ok(Err(error)) => {
                tracing::warn!(partition = lease.partition(), "cannot renew a lease: {error}");
                if Instant::now() >= runs_out {
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
            Err(_) => break,
        }
    }
    lost.cancel();
}

/// The events of a partition that are held in memory, lane by lane.
struct Lanes {
    work: Arc<Work>,
    lease: Lease,
    shutdown: CancellationToken,
    waiting: HashMap<LaneId, VecDeque<(Entry, Event)>>,
    held: HashSet<EntryId>,
    newest: EntryId,
    running: JoinSet<(LaneId, EntryId, End)>,
}

impl Lanes {
    fn new(work: Arc<Work>, lease: Lease, shutdown: CancellationToken) -> Self {
        let (waiting, held, running) = (HashMap::new(), HashSet::new(), JoinSet::new());
        Self { work, lease, shutdown, waiting, held, newest: EntryId::default(), running }
    }

    /// Until shutdown, and then until what runs has finished; or until the lease is lost.
    async fn run(&mut self) {
        let window = self.work.settings.window;
        let (sender, mut batches) = mpsc::channel(1);
        let mut reading = JoinSet::new();
        reading.spawn(read(Reader::new(self.lease.clone()), window.min(256), sender));
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(batch) = batches.recv(), if self.held.len() < window => self.take(batch).await,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((lane, entry, End::DealtWith)) => self.advance(lane, entry),
                    Ok((_, _, End::Stopped)) => {}
                    // Fenced; or a panic, after which the lane's order could not be vouched for.
                    Ok((_, _, End::Fenced)) | Err(_) => return,
                },
            }
        }
        while self.running.join_next().await.is_some() {}
    }

    async fn take(&mut self, batch: Batch) {
        for entry in batch {
            // A reader that began again shows what it has shown before. What of that is not held was dealt with, or is
            // an entry that a failover brought back: the inbox itself says which.
            let shown_before = entry.id <= self.newest;
            self.newest = self.newest.max(entry.id);
            if self.held.contains(&entry.id) || (shown_before && !store(|| self.lease.holds(entry.id)).await) {
                continue;
            }
            self.held.insert(entry.id);
            match Event::parse(&entry.body, entry.received_at) {
                Ok(event) => self.enqueue(entry, event),
                Err(refusal) => {
                    tracing::error!(entry = %entry.id, code = refusal.code.as_str(), "an entry that is no event");
                    let code = refusal.code.as_str();
                    _ = store(|| self.lease.bury(entry.id, code, "the stored body is not an event", 0)).await;
                    self.held.remove(&entry.id);
                }
            }
        }
    }

    fn enqueue(&mut self, entry: Entry, event: Event) {
        let lane = event.lane();
        if let Some(queue) = self.waiting.get_mut(&lane) {
            queue.push_back((entry, event));
        } else {
            self.waiting.insert(lane.clone(), VecDeque::new());
            self.start(lane, entry, event);
        }
    }

    /// An event of the lane is dealt with: goes on with the next one, or forgets the lane.
    fn advance(&mut self, lane: LaneId, entry: EntryId) {
        self.held.remove(&entry);
        match self.waiting.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some((entry, event)) => self.start(lane, entry, event),
            None => drop(self.waiting.remove(&lane)),
        }
    }

    fn start(&mut self, lane: LaneId, entry: Entry, event: Event) {
        let (work, lease, shutdown) = (Arc::clone(&self.work), self.lease.clone(), self.shutdown.clone());
        self.running.spawn(async move {
            let id = entry.id;
            (lane, id, work_on(&work, &lease, entry, event, &shutdown).await)
        });
    }
}

/// Reads ahead by one batch.
async fn read(mut reader: Reader, most: usize, batches: mpsc::Sender<Batch>) {
    loop {
        match reader.next(most).await {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => {
                if batches.send(batch).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), "cannot read the inbox: {error}");
                sleep(Duration::from_millis(200 + fastrand::u64(..200))).await;
            }
        }
    }
}
