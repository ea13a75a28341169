//! Decides which partitions to give back, and which to ask for. No I/O.

use std::collections::BTreeMap;

/// What this backend does with a partition that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// The backend works on it.
    Working,
    /// The backend finishes the attempts in progress, and then gives the partition back.
    GivingBack,
}

/// What has to change so that this backend owns its share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The partitions to give back.
    pub(super) give_back: Vec<u32>,
    /// The partitions to ask for, in any order, until `missing` of them were acquired.
    pub(super) candidates: Vec<u32>,
    /// The number of partitions that this backend lacks.
    pub(super) missing: usize,
}

impl Plan {
    /// Compares a backend's share of `partitions` with the partitions that it owns.
    pub(super) fn new(share: usize, partitions: u32, owned: &BTreeMap<u32, Holding>) -> Self {
        let is_working = |(_, holding): &(&u32, &Holding)| **holding == Holding::Working;
        let working: Vec<_> = owned.iter().filter(is_working).map(|(partition, _)| *partition).collect();
        let surplus = working.len().saturating_sub(share);
        Self {
            give_back: working[..surplus].to_vec(),
            // A partition that is being given back cannot be acquired again before its lease is
            // released.
            candidates: (0..partitions).filter(|partition| !owned.contains_key(partition)).collect(),
            missing: share.saturating_sub(working.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, proptest};

    use super::{Holding::*, *};
    use crate::inbox::Attendance;

    #[test]
    fn a_plan_gives_back_the_surplus_and_asks_for_what_is_missing() {
        for (share, owned, give_back, candidates, missing) in [
            (0, vec![], vec![], vec![0, 1, 2, 3], 0),
            (4, vec![], vec![], vec![0, 1, 2, 3], 4),
            (2, vec![(1, Working), (3, Working)], vec![], vec![0, 2], 0),
            (1, vec![(1, Working), (3, Working)], vec![1], vec![0, 2], 0),
            (0, vec![(1, Working), (3, Working)], vec![1, 3], vec![0, 2], 0),
            (3, vec![(1, Working), (3, Working)], vec![], vec![0, 2], 1),
            // What is being given back counts as neither owned nor free.
            (2, vec![(1, GivingBack), (3, Working)], vec![], vec![0, 2], 1),
            (1, vec![(1, GivingBack), (3, Working)], vec![], vec![0, 2], 0),
        ] {
            let plan = Plan::new(share, 4, &owned.iter().copied().collect());
            assert_eq!(plan, Plan { give_back, candidates, missing }, "a share of {share}, {owned:?}");
        }
    }

    /// Several backends that plan in turns, and the partitions that they own.
    struct Backends {
        partitions: u32,
        owners: BTreeMap<u32, usize>,
        /// Each backend's partitions, or `None` for a backend that is not running.
        backends: Vec<Option<BTreeMap<u32, Holding>>>,
    }

    impl Backends {
        fn attendance(&self, backend: usize) -> Attendance {
            let working = |backends: &[Option<_>]| backends.iter().flatten().count() as u32;
            Attendance::new(working(&self.backends), working(&self.backends[..backend]))
        }

        /// What `Share::balance` does.
        fn balance(&mut self, backend: usize) {
            let share = self.attendance(backend).share(self.partitions);
            let Some(owned) = &mut self.backends[backend] else { return };
            let Plan { give_back, candidates, mut missing } = Plan::new(share, self.partitions, owned);
            for partition in give_back {
                owned.insert(partition, GivingBack);
            }
            for partition in candidates {
                if missing > 0 && !self.owners.contains_key(&partition) {
                    self.owners.insert(partition, backend);
                    owned.insert(partition, Working);
                    missing -= 1;
                }
            }
        }

        /// Releases the partitions that a backend is giving back.
        fn give_back(&mut self, backend: usize) {
            let Some(owned) = &mut self.backends[backend] else { return };
            let owners = &mut self.owners;
            owned.retain(|partition, holding| *holding == Working || owners.remove(partition).is_none());
        }

        fn start_or_stop(&mut self, backend: usize) {
            if self.backends[backend].take().is_none() {
                self.backends[backend] = Some(BTreeMap::new());
            }
            self.owners.retain(|_, owner| *owner != backend);
        }
    }

    proptest! {
        #[test]
        fn backends_that_plan_in_any_order_end_up_owning_everything_in_equal_shares(
            partitions in 1_u32..40, steps in vec((0_usize..6, 0_u8..8), 0..60),
        ) {
            let mut world = Backends { partitions, owners: BTreeMap::new(), backends: vec![None; 6] };
            world.start_or_stop(0);
            for (backend, step) in steps {
                match step {
                    0 if backend > 0 => world.start_or_stop(backend),
                    0..4 => world.give_back(backend),
                    _ => world.balance(backend),
                }
            }
            // First everybody gives the surplus back, then everybody acquires what is missing.
            for _ in 0..2 {
                (0..6).for_each(|backend| world.balance(backend));
                (0..6).for_each(|backend| world.give_back(backend));
            }
            prop_assert_eq!(world.owners.len(), partitions as usize);
            for backend in 0..6 {
                let share = world.attendance(backend).share(partitions);
                if let Some(owned) = &world.backends[backend] {
                    prop_assert_eq!(owned.len(), share);
                }
            }
        }
    }
}
