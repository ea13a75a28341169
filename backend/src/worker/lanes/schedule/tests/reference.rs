//! The reference for the schedule: one queue for each lane.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::{Case, Limits, Priority};
use crate::inbox::EntryId;

/// What the Partner API has shown about the cases.
#[derive(Default)]
pub(super) struct Priorities {
    pub(super) is_flooded: bool,
    pub(super) known: BTreeSet<usize>,
}

/// What the schedule should do.
#[derive(Default)]
pub(super) struct Reference {
    pub(super) lanes: BTreeMap<usize, Lane>,
    /// The ready lanes, in the order in which they became ready.
    pub(super) ready: Vec<(usize, Priority)>,
}

#[derive(Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<EntryId>,
    pub(super) state: State,
    pub(super) has_waited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Ready,
    InProgress,
    Handled,
    Waiting,
}

impl Priorities {
    pub(super) fn of(&self, case: &Case) -> Priority {
        self.of_index(index_of(case))
    }

    pub(super) fn of_index(&self, case: usize) -> Priority {
        if self.is_flooded && !self.known.contains(&case) { Priority::Low } else { Priority::Normal }
    }
}

impl Reference {
    pub(super) fn lane(&mut self, case: usize) -> &mut Lane {
        self.lanes.get_mut(&case).expect("the lane has events")
    }

    pub(super) fn busy(&self) -> usize {
        self.lanes.values().filter(|lane| matches!(lane.state, State::InProgress | State::Handled)).count()
    }

    pub(super) fn has_room(&self, limits: Limits) -> bool {
        let ready = self.ready.iter().filter(|(_, priority)| *priority == Priority::Normal).count();
        let held: usize = self.lanes.values().map(|lane| lane.queue.len()).sum();
        self.busy() + ready < limits.window && held < limits.identifiers
    }

    pub(super) fn add(&mut self, case: usize, id: EntryId, priorities: &Priorities) {
        let is_new = !self.lanes.contains_key(&case);
        self.lanes.entry(case).or_default().queue.push_back(id);
        if is_new {
            self.make_ready(case, priorities);
        }
    }

    /// Returns the event that should start, and whether it has waited for a retry.
    pub(super) fn start(&mut self, case: usize, priority: Priority) -> (EntryId, bool) {
        let normal = self.ready.iter().position(|(_, priority)| *priority == Priority::Normal);
        let next = normal.or_else(|| (!self.ready.is_empty()).then_some(0)).expect("a lane is ready");
        assert_eq!(self.ready.remove(next), (case, priority), "another lane became ready before");
        let lane = self.lane(case);
        assert_eq!(lane.state, State::Ready, "an event of case {case} was started");
        lane.state = State::InProgress;
        (lane.queue[0], lane.has_waited)
    }

    pub(super) fn make_ready(&mut self, case: usize, priorities: &Priorities) {
        self.lane(case).state = State::Ready;
        self.ready.push((case, priorities.of_index(case)));
    }

    pub(super) fn raise_low_priority(&mut self) {
        self.ready.sort_by_key(|(_, priority)| *priority == Priority::Low);
        for (_, priority) in &mut self.ready {
            *priority = Priority::Normal;
        }
    }

    pub(super) fn advance(&mut self, case: usize, priorities: &Priorities) {
        let lane = self.lane(case);
        lane.queue.pop_front();
        lane.has_waited = false;
        if lane.queue.is_empty() {
            self.lanes.remove(&case);
        } else {
            self.make_ready(case, priorities);
        }
    }
}

pub(super) fn index_of(case: &Case) -> usize {
    case.as_str().parse().expect("the case is a number")
}
