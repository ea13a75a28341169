//! The readmission of events from the quarantine: of those that a filter selects, oldest first.

use std::fmt;

use tokio_util::sync::CancellationToken;

use super::{Event, Filter, State, Walk};
use crate::{
    inbox::{Inbox, InboxError, Kept, Order, Readmission},
    units::count,
};

/// What a readmission did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readmitted {
    readmitted: u64,
    received_before: u64,
    still_unknown: u64,
}

/// Moves quarantined events to the inbox: those that `filter` selects and that this version of the
/// backend knows. The state in `filter` is ignored. Reports what it has done after each event, and
/// ends early if `stop` is cancelled.
///
/// # Errors
/// If Redis does not answer. What was done until then stays done.
pub async fn readmit(
    inbox: &Inbox,
    filter: Filter,
    stop: &CancellationToken,
    mut report: impl FnMut(&Readmitted),
) -> Result<Readmitted, InboxError> {
    let filter = Filter { state: Some(State::Quarantined), ..filter };
    let mut walk = Walk::new(inbox, &filter, Order::OldestFirst, None, usize::MAX);
    let mut done = Readmitted::default();
    while !stop.is_cancelled()
        && let Some(stored) = walk.next().await?
    {
        let is_selected = Event::of(&stored).is_some_and(|event| filter.selects(&event));
        if let (Kept::Quarantined(event), true) = (&stored.what, is_selected) {
            done.add(inbox.readmit(event).await?);
            report(&done);
        }
    }
    Ok(done)
}

impl Readmitted {
    fn add(&mut self, readmission: Readmission) {
        match readmission {
            Readmission::Readmitted => self.readmitted += 1,
            Readmission::Known => self.received_before += 1,
            Readmission::StillUnknown => self.still_unknown += 1,
        }
    }

    /// How many events were looked at.
    pub fn total(&self) -> u64 {
        self.readmitted + self.received_before + self.still_unknown
    }
}

impl fmt::Display for Readmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "readmitted {}", count(self.readmitted, "event"))?;
        if self.received_before > 0 {
            write!(f, "; removed {} received before", count(self.received_before, "event"))?;
        }
        if self.still_unknown > 0 {
            write!(f, "; left {} that this version does not know", count(self.still_unknown, "event"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_became_of_each_event() {
        for (readmitted, received_before, still_unknown, expected) in [
            (0, 0, 0, "readmitted 0 events"),
            (1, 0, 1, "readmitted 1 event; left 1 event that this version does not know"),
            (2, 3, 0, "readmitted 2 events; removed 3 events received before"),
        ] {
            assert_eq!(Readmitted { readmitted, received_before, still_unknown }.to_string(), expected);
        }
    }
}
