//! A feature's lanes in one partition: each is worked on in order, and all of them at once.
//!
//! Lanes of cases that were never seen go last while most of those do not exist ([`crate::partner_api::KnownCases`]).
//!
//! A lane is busy (its first event is being worked on), ready for that, or parked (its first event waits for its next
//! try). Only what is busy or ready fills the window of events in memory; of a parked lane nothing but the identifiers of
//! its events is kept, so that events that cannot be handled now do not keep others from being read.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    sync::Arc,
    time::Duration,
};

use envelope::{CaseId, Feature};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, time::DelayQueue};

use super::{
    Work,
    attempt::{End, Task, work_on},
    backoff,
    until_answered::until_answered,
};
use crate::{
    event::Event,
    inbox::{Batch, Entry, EntryId, Lease, LeaseLost},
};

type Case = CaseId<'static>;

pub(super) struct Lanes {
    feature: Feature,
    work: Arc<Work>,
    lease: Lease,
    stop: CancellationToken,
    /// The events of each lane, the first of them being the one that is next or being worked on.
    lanes: HashMap<Case, VecDeque<Queued>>,
    /// How many events are in all lanes.
    held: usize,
    newest: Option<EntryId>,
    ready: VecDeque<Case>,
    /// Ready too, but behind: cases that were never seen, while most of those do not exist. Not in the window, since only
    /// identifiers of their events are in memory.
    last: VecDeque<Case>,
    /// How many of the busy lanes are of such cases.
    busy_last: usize,
    parked: DelayQueue<Case>,
    busy: JoinSet<(Case, Rank, Result<End, LeaseLost>)>,
    /// Busy lanes too: their first event was handled, and is still in the inbox.
    handled: VecDeque<(Case, EntryId)>,
    /// Takes the first so many of these out of the inbox. What is handled meanwhile goes together, the next time.
    leaving: JoinSet<Result<usize, LeaseLost>>,
}

/// Which lanes go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// In the order in which they became ready.
    Usual,
    /// Only if no other is ready, and few at once.
    Last,
}

/// An event in its lane.
enum Queued {
    /// With what was read of it.
    Loaded(Box<(Entry, Event)>),
    /// To be read again when its turn comes.
    Stored(EntryId),
    /// The same, and it has waited for its retry, or waits for it.
    Waited(EntryId),
}

/// For each event that the window holds in memory, the identifiers of so many that wait for a next try.
const PARKED: usize = 100;
/// The longest wait that is put into the queue, which panics at waits of more than two years.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How many events leave the inbox together, at most.
const TOGETHER: usize = 256;

impl Lanes {
    pub(super) fn new(feature: Feature, work: Arc<Work>, lease: Lease, stop: CancellationToken) -> Self {
        let (lanes, held, ready) = (HashMap::new(), 0, VecDeque::new());
        let (parked, busy, handled, leaving) = (DelayQueue::new(), JoinSet::new(), VecDeque::new(), JoinSet::new());
        let (newest, last, busy_last) = (None, VecDeque::new(), 0);
        Self { feature, work, lease, stop, lanes, held, newest, ready, last, busy_last, parked, busy, handled, leaving }
    }

    /// Until we are told to stop, and then until what is being worked on is finished. Tells `room` that a batch was taken.
    pub(super) async fn run(&mut self, mut batches: mpsc::Receiver<Batch>, room: &Notify) -> Result<(), LeaseLost> {
        let stop = self.stop.clone();
        let mut paused = self.work.paused.subscribe();
        let window = self.work.settings.window;
        loop {
            let goes_on = !stop.is_cancelled();
            if goes_on && !paused.borrow_and_update().features.contains(&self.feature) {
                self.start_ready();
            }
            self.let_leave();
            if !goes_on && self.count_busy() == 0 {
                return Ok(());
            }
            let has_room = self.count_busy() + self.ready.len() < window && self.held < window.saturating_mul(PARKED);
            tokio::select! {
                () = stop.cancelled(), if goes_on => {}
                _ = paused.changed(), if goes_on => {}
                Some(batch) = batches.recv(), if goes_on && has_room => {
                    room.notify_one();
                    self.take(batch).await?;
                }
                Some(lane) = poll_fn(|context| self.parked.poll_expired(context)), if goes_on => {
                    self.make_ready(lane.into_inner());
                }
                Some(ended) = self.busy.join_next() => {
                    self.note(ended)?;
                    while let Some(ended) = self.busy.try_join_next() {
                        self.note(ended)?;
                    }
                }
                Some(gone) = self.leaving.join_next() => {
                    let stay = self.handled.split_off(gone.map_err(|_| LeaseLost)??);
                    for (lane, _) in std::mem::replace(&mut self.handled, stay) {
                        self.go_on(lane);
                    }
                }
            }
        }
    }

    fn count_busy(&self) -> usize {
        self.busy.len() + self.handled.len()
    }

    fn start_ready(&mut self) {
        // More would only wait for each other.
        let most = self.work.permits.of_one;
        while self.busy.len() < most && self.count_busy() < self.work.settings.window {
            let Some((lane, rank)) = self.next_ready() else { return };
            let Some(first) = self.lanes.get_mut(&lane).and_then(VecDeque::front_mut) else { continue };
            let id = first.id();
            let queued = std::mem::replace(first, Queued::Stored(id));
            let task = Task { id, has_waited: matches!(queued, Queued::Waited(_)), loaded: queued.loaded() };
            let (work, lease, stop) = (Arc::clone(&self.work), self.lease.clone(), self.stop.clone());
            self.busy_last += usize::from(rank == Rank::Last);
            self.busy.spawn(async move { (lane, rank, work_on(&work, &lease, task, &stop).await) });
        }
    }

    fn next_ready(&mut self) -> Option<(Case, Rank)> {
        if !self.last.is_empty() && !self.work.handlers.known().is_flooded() {
            self.ready.append(&mut self.last);
        }
        if let Some(lane) = self.ready.pop_front() {
            return Some((lane, Rank::Usual));
        }
        // The rest of what may be busy is for lanes that become ready meanwhile.
        let has_room = self.busy_last < (self.work.permits.of_one / 4).max(1);
        let lane = if has_room { self.last.pop_front() } else { None };
        lane.map(|lane| (lane, Rank::Last))
    }

    /// A lane's first event may be worked on.
    fn make_ready(&mut self, lane: Case) {
        if !self.work.handlers.known().comes_last(lane.as_str()) {
            return self.ready.push_back(lane);
        }
        if let Some(first) = self.lanes.get_mut(&lane).and_then(VecDeque::front_mut)
            && let Queued::Loaded(_) = first
        {
            *first = Queued::Stored(first.id());
        }
        self.last.push_back(lane);
    }

    fn let_leave(&mut self) {
        if self.handled.is_empty() || !self.leaving.is_empty() {
            return;
        }
        let entries: Vec<_> = self.handled.iter().map(|(_, entry)| *entry).take(TOGETHER).collect();
        let lease = self.lease.clone();
        self.leaving.spawn(async move {
            until_answered(|| lease.complete(&entries)).await?;
            Ok(entries.len())
        });
    }

    /// A lane's first event was tried, or could not be.
    fn note(&mut self, ended: Result<(Case, Rank, Result<End, LeaseLost>), JoinError>) -> Result<(), LeaseLost> {
        let (lane, rank, end) = ended.map_err(|_| LeaseLost)?;
        self.busy_last -= usize::from(rank == Rank::Last);
        match end? {
            End::Stopped => {}
            End::Paused => self.make_ready(lane),
            End::Waits(delay) => self.let_wait(lane, delay),
            End::Handled(entry) => self.handled.push_back((lane, entry)),
            End::Gone => self.go_on(lane),
        }
        Ok(())
    }

    /// By the monotonic clock, so that a wall clock that jumps makes no wait longer.
    fn let_wait(&mut self, lane: Case, delay: Duration) {
        if let Some(first) = self.lanes.get_mut(&lane).and_then(VecDeque::front_mut) {
            *first = Queued::Waited(first.id());
        }
        self.parked.insert(lane, delay.min(backoff::longest(&self.work.settings)).min(LONGEST));
    }

    /// A lane's first event is not in the inbox any more.
    fn go_on(&mut self, lane: Case) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        self.held -= usize::from(queue.pop_front().is_some());
        if queue.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.make_ready(lane);
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<(), LeaseLost> {
        // A reader that began again shows what it has shown before. What of that is not held was dealt with, or is an
        // entry that a failover brought back: the inbox itself says which.
        let begins_again = batch.entries.first().map(|entry| entry.id) <= self.newest;
        let held: HashSet<_> =
            if begins_again { self.lanes.values().flatten().map(Queued::id).collect() } else { HashSet::new() };
        for entry in batch.entries {
            let shown_before = self.newest.is_some_and(|newest| entry.id <= newest);
            self.newest = self.newest.max(Some(entry.id));
            if shown_before
                && (held.contains(&entry.id) || until_answered(|| self.lease.entry(entry.id)).await?.is_none())
            {
                continue;
            }
            match Event::parse(&entry.body, entry.received_at, entry.backfilled) {
                Ok(event) => self.enqueue(entry, event),
                Err(rejection) => {
                    let code = rejection.code.as_str();
                    tracing::error!(entry = %entry.id, code, "an entry that is no event");
                    until_answered(|| self.lease.dead_letter(entry.id, code, "the stored body is not an event", 0))
                        .await?;
                }
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, entry: Entry, event: Event) {
        let (id, lane) = (entry.id, event.case_id.clone());
        self.held += 1;
        match self.lanes.get_mut(&lane) {
            Some(queue) => queue.push_back(Queued::Stored(id)),
            None => {
                let first = VecDeque::from([Queued::Loaded(Box::new((entry, event)))]);
                self.lanes.insert(lane.clone(), first);
                self.make_ready(lane);
            }
        }
    }
}

impl Queued {
    fn id(&self) -> EntryId {
        match self {
            Self::Loaded(loaded) => loaded.0.id,
            Self::Stored(id) | Self::Waited(id) => *id,
        }
    }

    fn loaded(self) -> Option<Box<(Entry, Event)>> {
        match self {
            Self::Loaded(loaded) => Some(loaded),
            Self::Stored(_) | Self::Waited(_) => None,
        }
    }
}
