//! Works on the lanes of one feature in one partition: each lane in order, all lanes concurrently.
//!
//! [`Schedule`] decides which lane is next. [`Lanes`] runs the attempts, keeps the timers of the
//! events that wait for a retry, and removes handled events from the inbox.

use std::{future::poll_fn, sync::Arc, time::Duration};

use envelope::Feature;
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, time::DelayQueue};

use super::{
    Work,
    attempt::{End, work_on},
    backoff,
    until_answered::until_answered,
};
use crate::{
    inbox::{Batch, Entry, Lease, LeaseLost},
    partner_api::KnownCases,
    telemetry::FailureLabels,
};

mod schedule;

pub(super) use schedule::Task;

use schedule::{Case, Limits, Priority, Schedule, Sighting, Turn};

/// The lanes of one feature in one partition.
pub(super) struct Lanes {
    feature: Feature,
    work: Arc<Work>,
    lease: Lease,
    stop: CancellationToken,
    schedule: Schedule,
    /// The timers of the lanes that wait for a retry.
    waiting: DelayQueue<Case>,
    attempts: JoinSet<(Turn, Result<End, LeaseLost>)>,
    /// At most one task, which removes handled events from the inbox and returns how many. Events
    /// that are handled meanwhile are removed together by the next task.
    removal: JoinSet<Result<usize, LeaseLost>>,
}

/// The largest number of identifiers in memory, as a multiple of the window.
const IDENTIFIERS: usize = 100;
/// The longest timer. [`DelayQueue`] panics at more than two years.
const LONGEST_TIMER: Duration = Duration::from_secs(86_400);
/// The largest number of events that leave the inbox together.
const REMOVED_TOGETHER: usize = 256;

impl Lanes {
    pub(super) fn new(feature: Feature, work: Arc<Work>, lease: Lease, stop: CancellationToken) -> Self {
        let window = work.settings.window;
        let limits = Limits {
            window,
            // More attempts would only wait for each other's permits.
            in_progress: work.permits.per_feature,
            identifiers: window.saturating_mul(IDENTIFIERS),
        };
        Self {
            feature,
            work,
            lease,
            stop,
            schedule: Schedule::new(limits),
            waiting: DelayQueue::new(),
            attempts: JoinSet::new(),
            removal: JoinSet::new(),
        }
    }

    /// Works on the batches until stopped, then finishes the attempts in progress. Notifies `room`
    /// after each batch it has received.
    pub(super) async fn run(&mut self, mut batches: mpsc::Receiver<Batch>, room: &Notify) -> Result<(), LeaseLost> {
        let stop = self.stop.clone();
        let mut paused = self.work.paused.subscribe();
        loop {
            let is_running = !stop.is_cancelled();
            if is_running && !paused.borrow_and_update().features.contains(&self.feature) {
                self.start_ready();
            }
            self.start_removal();
            if !is_running && self.schedule.is_idle() {
                return Ok(());
            }
            tokio::select! {
                () = stop.cancelled(), if is_running => {}
                _ = paused.changed(), if is_running => {}
                Some(batch) = batches.recv(), if is_running && self.schedule.has_room() => {
                    room.notify_one();
                    self.receive(batch).await?;
                }
                Some(lane) = poll_fn(|context| self.waiting.poll_expired(context)), if is_running => {
                    self.schedule.due(lane.into_inner(), priority_by(self.work.handlers.known()));
                }
                Some(ended) = self.attempts.join_next() => {
                    self.end(ended)?;
                    while let Some(ended) = self.attempts.try_join_next() {
                        self.end(ended)?;
                    }
                }
                Some(removed) = self.removal.join_next() => {
                    let count = removed.map_err(|_| LeaseLost)??;
                    self.schedule.left(count, priority_by(self.work.handlers.known()));
                }
            }
        }
    }

    fn start_ready(&mut self) {
        if self.schedule.has_low_priority() && !self.work.handlers.known().is_flooded() {
            self.schedule.raise_low_priority();
        }
        while let Some((turn, task)) = self.schedule.start() {
            let work = Arc::clone(&self.work);
            let lease = self.lease.clone();
            let stop = self.stop.clone();
            self.attempts.spawn(async move { (turn, work_on(&work, &lease, task, &stop).await) });
        }
    }

    fn start_removal(&mut self) {
        if !self.removal.is_empty() {
            return;
        }
        let events = self.schedule.leaving(REMOVED_TOGETHER);
        if events.is_empty() {
            return;
        }
        let lease = self.lease.clone();
        self.removal.spawn(async move {
            until_answered(|| lease.complete(&events)).await?;
            Ok(events.len())
        });
    }

    fn end(&mut self, ended: Result<(Turn, Result<End, LeaseLost>), JoinError>) -> Result<(), LeaseLost> {
        // A panic outside the handler leaves the order within the lane unknown. Another owner
        // starts over.
        let (turn, end) = ended.map_err(|_| LeaseLost)?;
        let priority_of = priority_by(self.work.handlers.known());
        match end? {
            End::Handled(event) => self.schedule.handled(turn, event),
            End::Gone => self.schedule.gone(turn, priority_of),
            End::Waits(delay) => {
                // The timer uses the monotonic clock, so that a jump of the wall clock cannot
                // prolong it.
                let timer = delay.min(backoff::longest(&self.work.settings)).min(LONGEST_TIMER);
                self.waiting.insert(self.schedule.wait(turn), timer);
            }
            End::Paused => self.schedule.postpone(turn, priority_of),
            End::Stopped => self.schedule.stop(turn),
        }
        Ok(())
    }

    async fn receive(&mut self, batch: Batch) -> Result<(), LeaseLost> {
        let repeated = self.schedule.repeated(&batch);
        for entry in batch.entries {
            let is_pending = match self.schedule.sight(entry.id, &repeated) {
                Sighting::New => true,
                Sighting::Held => false,
                Sighting::Unclear => until_answered(|| self.lease.entry(entry.id)).await?.is_some(),
            };
            if is_pending {
                self.add(entry).await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, entry: Entry) -> Result<(), LeaseLost> {
        match entry.event() {
            Ok(event) => {
                self.schedule.add(entry, event, priority_by(self.work.handlers.known()));
                Ok(())
            }
            Err(rejection) => {
                let code = rejection.code.as_str();
                tracing::error!(entry = %entry.id, code, "dead letter: the stored body is not an event");
                let detail = "the stored body is not an event";
                until_answered(|| self.lease.dead_letter(&entry, code, detail, 0, &entry.failures)).await?;
                self.work.metrics.dead_letters.get_or_create(&FailureLabels { code }).inc();
                Ok(())
            }
        }
    }
}

/// A lane has low priority if the Partner API has not yet returned its case and most new cases turn
/// out not to exist.
fn priority_by(known: &KnownCases) -> impl Fn(&Case) -> Priority {
    move |case| if known.comes_last(case.as_str()) { Priority::Low } else { Priority::Normal }
}
