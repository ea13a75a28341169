//! A model check of the schedule: random interleavings of what can happen to a partition, compared
//! with a reference that keeps one queue for each lane ([`reference::Reference`]).

use proptest::{collection::vec, prelude::*, proptest};

mod reference;
mod world;

use super::Limits;
use world::World;

/// Something that happens. An index selects one of the possible objects, modulo their number;
/// nothing happens if there is none.
#[derive(Debug, Clone)]
enum Step {
    /// An event of a case is stored in the inbox.
    Arrive { case: usize },
    /// The reader returns the next entries, unless the lanes have yet to receive the previous ones.
    Read { limit: usize },
    /// The lanes receive the entries that were read.
    Receive,
    /// The reader starts again at the oldest entry.
    RestartReader,
    /// An attempt succeeds.
    Handle { index: usize },
    /// An event becomes a dead letter.
    DeadLetter { index: usize },
    /// An attempt fails, and the event waits for a retry.
    Fail { index: usize },
    /// An attempt ends before it began, because the feature was paused.
    Postpone { index: usize },
    /// An event that waits for a retry is due.
    Due { index: usize },
    /// Redis removes handled events from the inbox.
    Remove { limit: usize },
    /// The answer to the removal arrives.
    Removed,
    /// A failover brings back an entry that had left the inbox.
    BringBack { index: usize },
    /// A failover loses an entry.
    Lose { index: usize },
    /// The feature is paused, or resumed.
    Pause { is_paused: bool },
    /// Most unknown cases turn out not to exist, or to exist.
    Flood { is_flooded: bool },
    /// The Partner API shows a case.
    Learn { case: usize },
    /// The lease is lost, and the next owner reads from the start.
    LoseLease,
    /// The partition is given back while some attempts have not yet begun, and the next owner reads
    /// from the start.
    GiveBack { unbegun: usize },
}

/// The steps, common ones more often than rare ones.
fn step() -> impl Strategy<Value = Step> {
    let index = 0_usize..8;
    prop_oneof![
        12 => (0..world::CASES).prop_map(|case| Step::Arrive { case }),
        8 => (1_usize..6).prop_map(|limit| Step::Read { limit }),
        8 => Just(Step::Receive),
        2 => Just(Step::RestartReader),
        10 => index.clone().prop_map(|index| Step::Handle { index }),
        2 => index.clone().prop_map(|index| Step::DeadLetter { index }),
        4 => index.clone().prop_map(|index| Step::Fail { index }),
        1 => index.clone().prop_map(|index| Step::Postpone { index }),
        4 => index.clone().prop_map(|index| Step::Due { index }),
        6 => (1_usize..6).prop_map(|limit| Step::Remove { limit }),
        6 => Just(Step::Removed),
        1 => index.clone().prop_map(|index| Step::BringBack { index }),
        1 => index.prop_map(|index| Step::Lose { index }),
        2 => any::<bool>().prop_map(|is_paused| Step::Pause { is_paused }),
        2 => any::<bool>().prop_map(|is_flooded| Step::Flood { is_flooded }),
        1 => (0..world::CASES).prop_map(|case| Step::Learn { case }),
        1 => Just(Step::LoseLease),
        1 => (0_usize..4).prop_map(|unbegun| Step::GiveBack { unbegun }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (1_usize..8, 1_usize..10, 2_usize..30).prop_map(|(window, in_progress, identifiers)| Limits {
        window,
        in_progress,
        identifiers,
    })
}

proptest! {
    #[test]
    fn every_event_is_worked_on_in_the_order_of_its_lane_whatever_happens(
        limits in limits(),
        steps in vec(step(), 0..150),
    ) {
        let mut world = World::new(limits);
        for step in &steps {
            world.apply(step);
            world.start_ready();
        }
        world.finish();
    }
}
