//! The cases that are known to exist, and whether most new cases do not.
//!
//! If no authenticity is configured, anybody can send events of cases that do not exist, each of
//! which costs a call that ends in 404. While most *new* cases, those that the Partner API has not
//! yet returned to this process, do not exist, new cases get only a small share of the calls
//! ([`super::gate`]), and known cases go first.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The cases that are known to exist, and how the last first calls for new cases ended.
#[derive(Default)]
pub(crate) struct KnownCases {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Hashes of the cases that exist, in two generations: when `young` is full, it takes the place
    /// of `old`, and the cases in `old` are forgotten.
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// One bit for each of the last first calls, the newest lowest: 1 if the case does not exist.
    first_calls: u128,
    /// How many bits of `first_calls` are in use.
    count: u32,
    is_flooded: bool,
}

/// Number of cases in a generation. Two generations take at most 40 MB.
const GENERATION: usize = 1_000_000;
/// Number of first calls that are remembered.
const REMEMBERED: u32 = 100;
/// Number of first calls below which nothing is concluded.
const ENOUGH: u32 = 20;

impl KnownCases {
    /// Whether the Partner API has returned the case.
    pub(crate) fn is_known(&self, case: &str) -> bool {
        let hash = self.hasher.hash_one(case);
        self.state().knows(hash)
    }

    /// Whether most new cases do not exist.
    pub(crate) fn is_flooded(&self) -> bool {
        self.state().is_flooded
    }

    /// Whether known cases go before this one: it is new, and most new cases do not exist.
    pub(crate) fn comes_last(&self, case: &str) -> bool {
        self.is_flooded() && !self.is_known(case)
    }

    /// Records that a call for the case showed that it exists.
    pub(super) fn exists(&self, case: &str) {
        let hash = self.hasher.hash_one(case);
        let mut state = self.state();
        if !state.knows(hash) {
            state.count_first_call(CaseFound::Yes);
        }
        state.learn(hash);
    }

    /// Records that a call for the case showed that it does not exist.
    pub(super) fn does_not_exist(&self, case: &str) {
        let hash = self.hasher.hash_one(case);
        let mut state = self.state();
        if !state.knows(hash) {
            state.count_first_call(CaseFound::No);
        }
    }

    /// Records that the case is in the list of cases. This says nothing about floods, since no
    /// event caused the call.
    pub(super) fn is_listed(&self, case: &str) {
        let hash = self.hasher.hash_one(case);
        self.state().learn(hash);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the first call for a new case ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CaseFound {
    Yes,
    No,
}

impl State {
    fn knows(&self, hash: u64) -> bool {
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    fn learn(&mut self, hash: u64) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    fn count_first_call(&mut self, found: CaseFound) {
        let bit = u128::from(found == CaseFound::No);
        self.first_calls = ((self.first_calls << 1) | bit) & ((1 << REMEMBERED) - 1);
        self.count = (self.count + 1).min(REMEMBERED);
        let missing = self.first_calls.count_ones();
        // A flood ends at half the share at which it begins, so that the state does not flutter.
        let limit = if self.is_flooded { self.count / 4 } else { self.count / 2 };
        let is_flooded = self.count >= ENOUGH && missing > limit;
        if is_flooded == self.is_flooded {
            return;
        }
        self.is_flooded = is_flooded;
        if is_flooded {
            tracing::warn!(
                missing,
                of = self.count,
                "most new cases do not exist: new cases are limited to `partner_api.unknown_share` of the calls"
            );
        } else {
            tracing::info!("most new cases exist again: they are no longer limited");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_begins_and_ends_with_the_last_first_calls() {
        let known = KnownCases::default();
        for number in 0..19 {
            known.does_not_exist(&format!("forged-{number}"));
            assert!(!known.is_flooded(), "{number} calls are too few");
        }
        known.does_not_exist("forged-19");
        assert!(known.is_flooded());
        assert!(known.comes_last("new") && !known.is_known("forged-19"));
        let mut genuine = 0;
        while known.is_flooded() {
            known.exists(&format!("genuine-{genuine}"));
            genuine += 1;
            assert!(genuine <= 100, "the flood does not end");
        }
        assert!(genuine >= 60, "the flood ended after {genuine}");
        assert!(!known.comes_last("new"));
    }

    #[test]
    fn deleted_cases_in_ordinary_operation_are_not_a_flood() {
        let known = KnownCases::default();
        for number in 0..10_000 {
            let case = format!("case-{number}");
            if number % 3 == 0 {
                known.does_not_exist(&case);
            } else {
                known.exists(&case);
            }
            assert!(!known.is_flooded(), "{number}");
        }
    }

    #[test]
    fn calls_for_known_cases_do_not_count() {
        let known = KnownCases::default();
        known.is_listed("deleted");
        for _ in 0..100 {
            known.does_not_exist("deleted");
        }
        assert!(!known.is_flooded() && known.is_known("deleted"));
    }

    #[test]
    fn the_cases_learned_last_stay_known() {
        let mut state = State::default();
        for case in 0..(2 * GENERATION as u64 + 10) {
            state.learn(case);
            assert!(state.young.len() <= GENERATION && state.old.len() <= GENERATION);
        }
        let recent = 2 * GENERATION as u64 + 9 - 500_000;
        assert!(state.knows(recent));
    }
}
