//! A partition in which everything but the schedule is simulated.

use std::collections::{BTreeMap, BTreeSet};

use envelope::Feature;

use super::{
    super::{Case, Limits, Priority, Queued, Schedule, Sighting, Turn},
    Step,
    reference::{Priorities, Reference, State, index_of},
};
use crate::{
    event::Event,
    inbox::{Batch, Entry, EntryId, Failures, Handled},
    time::from_millis,
};

/// The number of cases.
pub(super) const CASES: usize = 6;
const FEATURE: Feature = Feature::Extraction;

pub(super) struct World {
    limits: Limits,
    schedule: Schedule,
    reference: Reference,
    /// An event of each case.
    events: Vec<Event>,

    // What Redis holds.
    inbox: BTreeMap<EntryId, usize>,
    /// The entries that were removed from the inbox because they were handled.
    handled: Vec<(EntryId, usize)>,
    /// The entries that a failover brought back. They may be older than entries that were read
    /// before.
    brought_back: BTreeSet<EntryId>,
    next_id: u64,

    // What the owner of the partition holds.
    last_read: Option<EntryId>,
    /// The entries that were read and have yet to be received, with their cases.
    batch: Vec<(EntryId, usize)>,
    in_progress: Vec<InProgress>,
    waiting: Vec<Case>,
    /// The number of handled events that Redis has removed, and whose removal is not yet confirmed.
    removed: Option<usize>,
    is_paused: bool,
    priorities: Priorities,
}

struct InProgress {
    turn: Turn,
    id: EntryId,
    case: usize,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            schedule: Schedule::new(limits),
            reference: Reference::default(),
            events: (0..CASES).map(event).collect(),
            inbox: BTreeMap::new(),
            handled: Vec::new(),
            brought_back: BTreeSet::new(),
            next_id: 1,
            last_read: None,
            batch: Vec::new(),
            in_progress: Vec::new(),
            waiting: Vec::new(),
            removed: None,
            is_paused: false,
            priorities: Priorities::default(),
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match *step {
            Step::Arrive { case } => self.arrive(case),
            Step::Read { limit } => self.read(limit),
            Step::Receive => self.receive(),
            Step::RestartReader => self.last_read = None,
            Step::Handle { index } => self.end(index, Self::handle),
            Step::DeadLetter { index } => self.end(index, Self::dead_letter),
            Step::Fail { index } => self.end(index, Self::fail),
            Step::Postpone { index } => self.end(index, Self::postpone),
            Step::Due { index } => self.due(index),
            Step::Remove { limit } => self.remove(limit),
            Step::Removed => self.confirm_removal(),
            Step::BringBack { index } => self.bring_back(index),
            Step::Lose { index } => self.lose(index),
            Step::Pause { is_paused } => self.is_paused = is_paused,
            Step::Flood { is_flooded } => self.priorities.is_flooded = is_flooded,
            Step::Learn { case } => _ = self.priorities.known.insert(case),
            Step::LoseLease => self.change_owner(),
            Step::GiveBack { unbegun } => self.give_back(unbegun),
        }
        self.check_memory();
    }

    fn arrive(&mut self, case: usize) {
        self.inbox.insert(EntryId::new(FEATURE, self.next_id, 0), case);
        self.next_id += 1;
    }

    fn read(&mut self, limit: usize) {
        if !self.batch.is_empty() {
            return;
        }
        let unread = self.inbox.iter().filter(|(id, _)| Some(**id) > self.last_read).take(limit);
        self.batch = unread.map(|(id, case)| (*id, *case)).collect();
        self.last_read = self.batch.last().map_or(self.last_read, |(id, _)| Some(*id));
    }

    /// Does what `Lanes::receive` does. The inbox may have changed since the entries were read.
    fn receive(&mut self) {
        assert_eq!(self.schedule.has_room(), self.reference.has_room(self.limits), "whether there is room");
        if !self.schedule.has_room() {
            return;
        }
        let received = std::mem::take(&mut self.batch);
        let entries: Vec<_> = received.iter().map(|(id, _)| entry(*id)).collect();
        let batch = Batch { feature: FEATURE, entries };
        let repeated = self.schedule.repeated(&batch);
        for (entry, (id, case)) in batch.entries.into_iter().zip(received) {
            let is_held = self.reference.lanes.get(&case).is_some_and(|lane| lane.queue.contains(&id));
            let sighting = self.schedule.sight(id, &repeated);
            assert_eq!(sighting == Sighting::Held, is_held, "{id} of case {case} was taken for {sighting:?}");
            if is_held || sighting == Sighting::Unclear && !self.inbox.contains_key(&id) {
                continue;
            }
            let was_handled = self.handled.iter().any(|(handled, _)| *handled == id);
            assert!(!was_handled, "{id} was handled, and would be handled again");
            self.schedule.add(entry, self.events[case].clone(), |case| self.priorities.of(case));
            self.reference.add(case, id, &self.priorities);
        }
    }

    /// Starts what may start, like `Lanes::start_ready`.
    pub(super) fn start_ready(&mut self) {
        if self.is_paused {
            return;
        }
        if self.schedule.has_low_priority() && !self.priorities.is_flooded {
            self.schedule.raise_low_priority();
            self.reference.raise_low_priority();
        }
        while let Some((turn, task)) = self.schedule.start() {
            let case = index_of(&turn.case);
            let (expected, has_waited) = self.reference.start(case, turn.priority);
            assert_eq!(task.id, expected, "the event of case {case} is not the first one of its lane");
            assert_eq!(task.has_waited, has_waited, "whether {expected} has waited");
            let loaded = task.loaded.map(|loaded| loaded.0.id);
            assert!(loaded.is_none_or(|loaded| loaded == expected), "{loaded:?} was loaded for {expected}");
            self.check_order(case, task.id);
            self.in_progress.push(InProgress { turn, id: task.id, case });
            self.check_limits();
        }
        self.check_nothing_is_held_back();
    }

    fn end(&mut self, index: usize, how: fn(&mut Self, InProgress)) {
        if self.in_progress.is_empty() {
            return;
        }
        let ended = self.in_progress.remove(index % self.in_progress.len());
        if self.inbox.contains_key(&ended.id) {
            how(self, ended);
        } else {
            self.gone(ended);
        }
    }

    fn handle(&mut self, ended: InProgress) {
        self.reference.lane(ended.case).state = State::Handled;
        self.schedule.handled(ended.turn, Handled::unrecorded(ended.id));
    }

    fn dead_letter(&mut self, ended: InProgress) {
        self.inbox.remove(&ended.id);
        self.gone(ended);
    }

    fn gone(&mut self, ended: InProgress) {
        self.schedule.gone(ended.turn, |case| self.priorities.of(case));
        self.reference.advance(ended.case, &self.priorities);
    }

    fn fail(&mut self, ended: InProgress) {
        let lane = self.reference.lane(ended.case);
        lane.state = State::Waiting;
        lane.has_waited = true;
        self.waiting.push(self.schedule.wait(ended.turn));
    }

    fn postpone(&mut self, ended: InProgress) {
        self.schedule.postpone(ended.turn, |case| self.priorities.of(case));
        self.reference.lane(ended.case).has_waited = false;
        self.reference.make_ready(ended.case, &self.priorities);
    }

    fn due(&mut self, index: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let case = self.waiting.remove(index % self.waiting.len());
        self.reference.make_ready(index_of(&case), &self.priorities);
        self.schedule.due(case, |case| self.priorities.of(case));
    }

    fn remove(&mut self, limit: usize) {
        if self.removed.is_some() {
            return;
        }
        let leaving = self.schedule.leaving(limit);
        for Handled { entry: id, .. } in &leaving {
            // A failover may have lost the entry meanwhile.
            if let Some(case) = self.inbox.remove(id) {
                self.handled.push((*id, case));
            }
        }
        self.removed = Some(leaving.len());
    }

    fn confirm_removal(&mut self) {
        let Some(count) = self.removed.take() else { return };
        let left: Vec<_> = self.schedule.handled.iter().take(count).map(|(case, _)| index_of(case)).collect();
        self.schedule.left(count, |case| self.priorities.of(case));
        for case in left {
            self.reference.advance(case, &self.priorities);
        }
    }

    fn bring_back(&mut self, index: usize) {
        // An entry whose removal is not yet confirmed is still held, so it is not read again.
        if self.handled.is_empty() || self.removed.is_some() {
            return;
        }
        let (id, case) = self.handled.remove(index % self.handled.len());
        self.inbox.insert(id, case);
        self.brought_back.insert(id);
        self.last_read = None;
    }

    fn lose(&mut self, index: usize) {
        let lost = self.inbox.keys().nth(index).copied();
        if let Some(lost) = lost {
            self.inbox.remove(&lost);
            self.last_read = None;
        }
    }

    fn change_owner(&mut self) {
        self.schedule = Schedule::new(self.limits);
        self.reference = Reference::default();
        self.last_read = None;
        self.batch.clear();
        self.in_progress.clear();
        self.waiting.clear();
        self.removed = None;
    }

    fn give_back(&mut self, unbegun: usize) {
        for _ in 0..unbegun.min(self.in_progress.len()) {
            let stopped = self.in_progress.remove(0);
            self.schedule.stop(stopped.turn);
        }
        while !self.in_progress.is_empty() {
            self.end(0, Self::handle);
        }
        while !self.schedule.is_idle() {
            assert!(!self.schedule.leaving(1).is_empty(), "the owner neither works nor stops");
            self.remove(2);
            self.confirm_removal();
        }
        self.change_owner();
    }

    /// Lets everything succeed, and checks that nothing was forgotten.
    pub(super) fn finish(&mut self) {
        self.is_paused = false;
        self.priorities.is_flooded = false;
        // Each round takes at least one event a step further.
        for _ in 0..4 * self.inbox.len() + 4 {
            self.start_ready();
            while !self.in_progress.is_empty() {
                self.end(0, Self::handle);
            }
            self.remove(usize::MAX);
            self.confirm_removal();
            while !self.waiting.is_empty() {
                self.due(0);
            }
            self.read(3);
            self.receive();
            self.check_memory();
        }
        assert!(self.inbox.is_empty(), "events were forgotten: {:?}", self.inbox);
        assert!(self.schedule.is_idle() && self.schedule.lanes.is_empty() && self.schedule.held == 0);
    }

    /// Events of a case start in the order in which they arrived, as long as no failover changes
    /// it.
    fn check_order(&self, case: usize, id: EntryId) {
        if self.brought_back.contains(&id) || !self.inbox.contains_key(&id) {
            return;
        }
        let mut pending = self.inbox.iter().filter(|(id, of)| **of == case && !self.brought_back.contains(id));
        assert_eq!(pending.next().map(|(id, _)| *id), Some(id), "an older event of case {case} was overtaken");
    }

    fn check_limits(&self) {
        let mut cases = BTreeSet::new();
        assert!(self.in_progress.iter().all(|one| cases.insert(one.case)), "two events of a lane are in progress");
        assert!(self.in_progress.len() <= self.limits.in_progress);
        let low = self.in_progress.iter().filter(|one| one.turn.priority == Priority::Low).count();
        assert!(low <= most_low(self.limits), "{low} events of low priority are in progress");
        assert!(self.reference.busy() <= self.limits.window);
    }

    fn check_memory(&self) {
        // The last batch may exceed the limits: it is read while there is room for one event.
        let batch = 5;
        let held: usize = self.reference.lanes.values().map(|lane| lane.queue.len()).sum();
        assert_eq!(self.schedule.held, held);
        assert!(held < self.limits.identifiers + batch, "{held} events are in memory");
        let loaded =
            self.schedule.lanes.values().flatten().filter(|queued| matches!(queued, Queued::Loaded(_))).count();
        assert!(loaded < self.limits.window + batch, "{loaded} bodies are in memory");
        for case in &self.schedule.ready_low {
            let is_loaded = matches!(self.schedule.lanes[case].front(), Some(Queued::Loaded(_)));
            assert!(!is_loaded, "a body of low priority is in memory");
        }
    }

    /// A ready lane waits only for a limit. Lanes of low priority never keep one of normal priority
    /// waiting, since they leave some of the places for events in progress free.
    fn check_nothing_is_held_back(&self) {
        let low = self.in_progress.iter().filter(|one| one.turn.priority == Priority::Low).count();
        let is_full = self.in_progress.len() == self.limits.in_progress || self.reference.busy() == self.limits.window;
        for (case, priority) in &self.reference.ready {
            let is_low_full = *priority == Priority::Low && low == most_low(self.limits);
            assert!(is_full || is_low_full, "case {case} is ready and was not started");
        }
    }
}

/// How many events of low priority may be in progress: a quarter, but at least one, or they would
/// wait for the end of a flood.
fn most_low(limits: Limits) -> usize {
    if limits.in_progress < 8 { 1 } else { limits.in_progress / 4 }
}

fn event(case: usize) -> Event {
    let body = format!(
        r#"{{"eventName":"case.extraction.completed",
            "payload":{{"caseId":"{case}","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}}}"#
    );
    Event::parse(body.as_bytes(), from_millis(0)).expect("the body is an event")
}

fn entry(id: EntryId) -> Entry {
    Entry {
        id,
        body: Vec::new(),
        received_at: from_millis(0),
        backfilled: false,
        attempts: 0,
        due: None,
        failures: Failures::default(),
        trace: None,
        is_trace_over: false,
    }
}
