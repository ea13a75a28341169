//! Which cases exist, as far as the Partner API has shown to this process, and whether most others do not.
//!
//! Anybody can send events of cases that do not exist where no authenticity is configured. Each costs a call that ends in 404.
//! While most of the cases that are looked at for the first time do not exist, cases that were never seen get a small share
//! of the calls ([`super::gate`]), and cases that are known go first.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The known cases, and how the last first looks at other cases ended.
#[derive(Default)]
pub struct KnownCases {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Hashes of the cases that exist. When `young` is full, `old` is forgotten and `young` becomes `old`.
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// The last first looks, the newest as the lowest bit, 1 for a case that does not exist.
    looks: u128,
    count: u32,
    is_flooded: bool,
}

/// How many cases a generation holds: two of them take up to 40 MB.
const GENERATION: usize = 1_000_000;
/// How many first looks are remembered.
const LOOKS: u32 = 100;
/// Fewer say nothing.
const FEW: u32 = 20;

impl KnownCases {
    /// Whether the Partner API has shown the case.
    pub fn is_known(&self, case: &str) -> bool {
        let hash = self.hasher.hash_one(case);
        let state = self.state();
        state.young.contains(&hash) || state.old.contains(&hash)
    }

    /// Whether most of the cases that were looked at for the first time do not exist.
    pub fn is_flooded(&self) -> bool {
        self.state().is_flooded
    }

    /// Whether the case has to wait for those that are known.
    pub fn comes_last(&self, case: &str) -> bool {
        self.is_flooded() && !self.is_known(case)
    }

    /// The Partner API has shown the case.
    pub(super) fn exists(&self, case: &str) {
        self.look(case, true);
    }

    /// The Partner API knows no such case.
    pub(super) fn does_not_exist(&self, case: &str) {
        self.look(case, false);
    }

    /// The Partner API has listed the case: known, but not looked at because of an event.
    pub(super) fn is_listed(&self, case: &str) {
        let hash = self.hasher.hash_one(case);
        self.state().learn(hash);
    }

    fn look(&self, case: &str, exists: bool) {
        let hash = self.hasher.hash_one(case);
        let mut state = self.state();
        let was_known = state.young.contains(&hash) || state.old.contains(&hash);
        if exists {
            state.learn(hash);
        }
        if !was_known {
            state.note(!exists);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn learn(&mut self, hash: u64) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    fn note(&mut self, is_missing: bool) {
        self.looks = ((self.looks << 1) | u128::from(is_missing)) & ((1 << LOOKS) - 1);
        self.count = (self.count + 1).min(LOOKS);
        let missing = self.looks.count_ones();
        // It takes fewer to stay than to begin, so that it does not flutter.
        let limit = if self.is_flooded { self.count / 4 } else { self.count / 2 };
        let is_flooded = self.count >= FEW && missing > limit;
        if is_flooded != self.is_flooded {
            self.is_flooded = is_flooded;
            if is_flooded {
                tracing::warn!(
                    missing,
                    of = self.count,
                    "most events are of cases that do not exist: cases never seen before get `partner_api.unknown_share`"
                );
            } else {
                tracing::info!("most new cases exist again: they are no longer held back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_noticed_by_the_last_first_looks_and_ends_with_them() {
        let known = KnownCases::default();
        for number in 0..19 {
            known.does_not_exist(&format!("forged-{number}"));
            assert!(!known.is_flooded(), "{number} say nothing");
        }
        known.does_not_exist("forged-19");
        assert!(known.is_flooded());
        assert!(known.comes_last("new") && !known.is_known("forged-19"));
        let mut taken = 0;
        while known.is_flooded() {
            known.exists(&format!("genuine-{taken}"));
            taken += 1;
            assert!(taken <= 100, "it does not end");
        }
        assert!(taken >= 60, "it ended after {taken}");
        assert!(!known.comes_last("new"));
    }

    #[test]
    fn ordinary_operation_is_no_flood_even_if_some_cases_were_deleted() {
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
    fn known_cases_do_not_count_as_first_looks() {
        let known = KnownCases::default();
        known.is_listed("deleted");
        for _ in 0..100 {
            known.does_not_exist("deleted");
        }
        assert!(!known.is_flooded() && known.is_known("deleted"));
    }

    #[test]
    fn what_was_seen_last_stays_known() {
        let mut state = State::default();
        for case in 0..(2 * GENERATION as u64 + 10) {
            state.learn(case);
            assert!(state.young.len() <= GENERATION && state.old.len() <= GENERATION);
        }
        let recent = 2 * GENERATION as u64 + 9 - 500_000;
        assert!(state.young.contains(&recent) || state.old.contains(&recent));
    }
}
