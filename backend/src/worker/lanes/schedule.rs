//! Decides which lane's first event may be worked on. No I/O, no tasks, no clock.
//!
//! Until the partition is given back, a lane that has events is in exactly one state:
//! - **ready**: its first event may start.
//! - **in progress**: an attempt of its first event is running.
//! - **handled**: its first event was handled and has yet to leave the inbox.
//! - **waiting**: its first event waits for a retry. The caller keeps the timer.
//!
//! Lanes that are in progress, handled or ready fill the window of events in memory. A lane that
//! waits keeps only the identifiers of its events, so that events which cannot be handled now do
//! not prevent others from being read.

use std::collections::{HashMap, HashSet, VecDeque};

use envelope::CaseId;

use crate::{
    event::Event,
    inbox::{Batch, Entry, EntryId, Handled},
};

#[cfg(test)]
mod tests;

pub(super) type Case = CaseId<'static>;

/// The lanes of one feature of one partition.
pub(super) struct Schedule {
    limits: Limits,
    /// The events of each lane, in order. The first one is next, in progress, handled or waiting.
    lanes: HashMap<Case, VecDeque<Queued>>,
    /// The number of events in all lanes.
    held: usize,
    /// The newest entry that was ever read.
    newest: Option<EntryId>,
    /// The ready lanes of normal priority, in the order in which they became ready.
    ready: VecDeque<Case>,
    /// The ready lanes of low priority. They do not count towards the window, because only the
    /// identifiers of their events are in memory.
    ready_low: VecDeque<Case>,
    in_progress: usize,
    in_progress_low: usize,
    /// The handled events that have yet to leave the inbox, in the order in which they were
    /// handled.
    handled: VecDeque<(Case, Handled)>,
}

/// The limits of a [`Schedule`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The number of lanes in progress, handled or ready from which on no further batch is read.
    pub(super) window: usize,
    /// The number of events that may be in progress.
    pub(super) in_progress: usize,
    /// The number of events with an identifier in memory from which on no further batch is read.
    pub(super) identifiers: usize,
}

/// Whether a lane has to let others go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// Lanes start in the order in which they become ready.
    Normal,
    /// The lane starts only if no lane of normal priority is ready, and only a few such lanes run
    /// at a time.
    Low,
}

/// A lane in progress. It is handed out by [`Schedule::start`] and given back when the attempt
/// ends.
#[derive(Debug)]
pub(super) struct Turn {
    case: Case,
    priority: Priority,
}

/// An event to work on.
pub(in crate::worker) struct Task {
    /// The event's entry.
    pub(in crate::worker) id: EntryId,
    /// The entry and the event, unless they have to be read again.
    pub(in crate::worker) loaded: Option<Box<(Entry, Event)>>,
    /// Whether the event has already waited here until it was due. The wall clock, which may have
    /// jumped meanwhile, is then not consulted again.
    pub(in crate::worker) has_waited: bool,
}

/// What the schedule knows about an entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sighting {
    /// The entry was never read before.
    New,
    /// The entry is in its lane.
    Held,
    /// The entry was read before and is in no lane. Either it has left the inbox since it was read,
    /// or a failover brought it back. Only the inbox can tell.
    Unclear,
}

/// An event in its lane.
enum Queued {
    /// The entry and the event are in memory.
    Loaded(Box<(Entry, Event)>),
    /// The entry has to be read again when it is next.
    Stored(EntryId),
    /// The same, and the event waits, or has waited, for a retry.
    Waited(EntryId),
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            held: 0,
            newest: None,
            ready: VecDeque::new(),
            ready_low: VecDeque::new(),
            in_progress: 0,
            in_progress_low: 0,
            handled: VecDeque::new(),
        }
    }

    /// Returns whether another batch may be read.
    pub(super) fn has_room(&self) -> bool {
        self.busy() + self.ready.len() < self.limits.window && self.held < self.limits.identifiers
    }

    /// Returns whether no event is in progress and every handled one has left the inbox.
    pub(super) fn is_idle(&self) -> bool {
        self.busy() == 0
    }

    fn busy(&self) -> usize {
        self.in_progress + self.handled.len()
    }

    /// Returns the identifiers of all events in the lanes if `batch` may repeat some of them. That
    /// happens when the reader started again at the oldest entry.
    pub(super) fn repeated(&self, batch: &Batch) -> HashSet<EntryId> {
        let is_repeated = batch.entries.first().is_some_and(|first| Some(first.id) <= self.newest);
        if is_repeated { self.lanes.values().flatten().map(Queued::id).collect() } else { HashSet::new() }
    }

    /// Notes that an entry was read. `repeated` comes from [`Self::repeated`] for the entry's
    /// batch.
    pub(super) fn sight(&mut self, entry: EntryId, repeated: &HashSet<EntryId>) -> Sighting {
        if self.newest < Some(entry) {
            self.newest = Some(entry);
            Sighting::New
        } else if repeated.contains(&entry) {
            Sighting::Held
        } else {
            Sighting::Unclear
        }
    }

    /// Appends an event to its lane.
    pub(super) fn add(&mut self, entry: Entry, event: Event, priority_of: impl FnOnce(&Case) -> Priority) {
        self.held += 1;
        if let Some(lane) = self.lanes.get_mut(&event.case_id) {
            lane.push_back(Queued::Stored(entry.id));
            return;
        }
        let case = event.case_id.clone();
        self.lanes.insert(case.clone(), VecDeque::from([Queued::Loaded(Box::new((entry, event)))]));
        self.make_ready(case, priority_of);
    }

    /// Starts the first event of the lane whose turn it is, if the limits allow another one.
    pub(super) fn start(&mut self) -> Option<(Turn, Task)> {
        while self.in_progress < self.limits.in_progress && self.busy() < self.limits.window {
            let turn = self.next_turn()?;
            let Some(first) = self.first_of(&turn.case) else { continue };
            let id = first.id();
            let task = match std::mem::replace(first, Queued::Stored(id)) {
                Queued::Loaded(loaded) => Task { id, loaded: Some(loaded), has_waited: false },
                Queued::Stored(_) => Task { id, loaded: None, has_waited: false },
                Queued::Waited(_) => Task { id, loaded: None, has_waited: true },
            };
            self.in_progress += 1;
            self.in_progress_low += usize::from(turn.priority == Priority::Low);
            return Some((turn, task));
        }
        None
    }

    fn next_turn(&mut self) -> Option<Turn> {
        if let Some(case) = self.ready.pop_front() {
            return Some(Turn { case, priority: Priority::Normal });
        }
        if self.in_progress_low >= self.limits.low_priority() {
            return None;
        }
        let case = self.ready_low.pop_front()?;
        Some(Turn { case, priority: Priority::Low })
    }

    /// Returns whether a lane of low priority is ready.
    pub(super) fn has_low_priority(&self) -> bool {
        !self.ready_low.is_empty()
    }

    /// Gives normal priority to the ready lanes of low priority.
    pub(super) fn raise_low_priority(&mut self) {
        self.ready.append(&mut self.ready_low);
    }

    /// The event was handled. Its lane continues once the event has left the inbox.
    pub(super) fn handled(&mut self, turn: Turn, event: Handled) {
        let case = self.end(turn);
        self.handled.push_back((case, event));
    }

    /// The event is no longer in the inbox. Its lane continues with the next event.
    pub(super) fn gone(&mut self, turn: Turn, priority_of: impl FnOnce(&Case) -> Priority) {
        let case = self.end(turn);
        self.advance(case, priority_of);
    }

    /// The event waits for a retry. Returns the lane, for [`Self::due`].
    pub(super) fn wait(&mut self, turn: Turn) -> Case {
        let case = self.end(turn);
        if let Some(first) = self.first_of(&case) {
            *first = Queued::Waited(first.id());
        }
        case
    }

    /// The first event of a waiting lane is due.
    pub(super) fn due(&mut self, case: Case, priority_of: impl FnOnce(&Case) -> Priority) {
        self.make_ready(case, priority_of);
    }

    /// The attempt did not begin, because the feature is paused. The event is still next in its
    /// lane.
    pub(super) fn postpone(&mut self, turn: Turn, priority_of: impl FnOnce(&Case) -> Priority) {
        let case = self.end(turn);
        self.make_ready(case, priority_of);
    }

    /// The attempt did not begin, because the partition is being given back. The lane does not
    /// continue.
    pub(super) fn stop(&mut self, turn: Turn) {
        self.end(turn);
    }

    /// Returns the handled events that have yet to leave the inbox, oldest first, at most `limit`.
    /// Each event's record is returned only once.
    pub(super) fn leaving(&mut self, limit: usize) -> Vec<Handled> {
        self.handled.iter_mut().map(|(_, event)| event.take()).take(limit).collect()
    }

    /// The first `count` events of [`Self::leaving`] have left the inbox. Their lanes continue.
    pub(super) fn left(&mut self, count: usize, priority_of: impl Fn(&Case) -> Priority) {
        for _ in 0..count {
            let Some((case, _)) = self.handled.pop_front() else { return };
            self.advance(case, &priority_of);
        }
    }

    fn end(&mut self, turn: Turn) -> Case {
        self.in_progress -= 1;
        self.in_progress_low -= usize::from(turn.priority == Priority::Low);
        turn.case
    }

    /// Removes a lane's first event, and makes the lane ready if there is another one.
    fn advance(&mut self, case: Case, priority_of: impl FnOnce(&Case) -> Priority) {
        let Some(lane) = self.lanes.get_mut(&case) else { return };
        self.held -= usize::from(lane.pop_front().is_some());
        if lane.is_empty() {
            self.lanes.remove(&case);
        } else {
            self.make_ready(case, priority_of);
        }
    }

    fn make_ready(&mut self, case: Case, priority_of: impl FnOnce(&Case) -> Priority) {
        match priority_of(&case) {
            Priority::Normal => self.ready.push_back(case),
            Priority::Low => {
                if let Some(first) = self.first_of(&case) {
                    first.unload();
                }
                self.ready_low.push_back(case);
            }
        }
    }

    fn first_of(&mut self, case: &Case) -> Option<&mut Queued> {
        self.lanes.get_mut(case).and_then(VecDeque::front_mut)
    }
}

impl Limits {
    /// Returns how many of the events in progress may be of low priority. The remaining places are
    /// for lanes of normal priority that become ready meanwhile.
    fn low_priority(self) -> usize {
        (self.in_progress / 4).max(1)
    }
}

impl Queued {
    fn id(&self) -> EntryId {
        match self {
            Self::Loaded(loaded) => loaded.0.id,
            Self::Stored(id) | Self::Waited(id) => *id,
        }
    }

    /// Keeps only the identifier in memory.
    fn unload(&mut self) {
        if let Self::Loaded(loaded) = self {
            *self = Self::Stored(loaded.0.id);
        }
    }
}
