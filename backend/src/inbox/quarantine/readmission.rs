//! The readmission of many events from the quarantine.

use std::{fmt, ops::ControlFlow};

use super::{PAGE, Quarantined, Readmission};
use crate::{
    config::Config,
    inbox::{Inbox, InboxError},
    time::to_millis,
    units::count,
};

/// The events in quarantine at one moment. Events that arrive later do not belong to it.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The moment, in milliseconds, by the clock of Redis.
    pub until_ms: u64,
    /// How many events there are.
    pub total: u64,
    /// Some of them.
    pub first: Vec<Quarantined>,
}

/// What a readmission did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readmitted {
    readmitted: u64,
    received_before: u64,
    still_unknown: u64,
}

impl Inbox {
    /// Returns the events in quarantine, with the bodies of at most `wanted` of them.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn preview_quarantine(&self, config: &Config, wanted: usize) -> Result<Preview, InboxError> {
        let until_ms = to_millis(self.examined(config).slowest_clock().await?).saturating_sub(1);
        let mut preview = Preview { until_ms, total: 0, first: Vec::new() };
        for partition in 0..self.partitions() {
            let key = self.keys.of_partition(partition).quarantine();
            let mut commands = redis::pipe();
            commands.atomic().cmd("XLEN").arg(&key);
            commands.cmd("XRANGE").arg(&key).arg(until_ms + 1).arg("+").arg("COUNT").arg(PAGE);
            let (all, later): (u64, Vec<redis::Value>) =
                self.bounded(commands.query_async(&mut self.connection(partition))).await?;
            preview.total += all.saturating_sub(later.len() as u64);
            if preview.first.len() < wanted {
                let some = self.quarantined_until(partition, None, until_ms, wanted - preview.first.len()).await?;
                preview.first.extend(some);
            }
        }
        Ok(preview)
    }

    /// Moves the events that entered the quarantine up to `until_ms`, by the clock of Redis, and that
    /// this version of the backend knows, to the inbox. Reports what it has done after each event, and
    /// ends early if the answer is to break.
    ///
    /// # Errors
    /// If Redis does not answer. What was done until then stays done.
    pub async fn readmit_until(
        &self,
        until_ms: u64,
        mut report: impl FnMut(&Readmitted) -> ControlFlow<()>,
    ) -> Result<Readmitted, InboxError> {
        let mut done = Readmitted::default();
        for partition in 0..self.partitions() {
            let mut after: Option<String> = None;
            loop {
                let page = self.quarantined_until(partition, after.as_deref(), until_ms, PAGE).await?;
                for event in &page {
                    done.add(self.readmit(event).await?);
                    if report(&done).is_break() {
                        return Ok(done);
                    }
                }
                let Some(last) = page.last() else { break };
                after = Some(last.id.clone());
            }
        }
        Ok(done)
    }
}

impl Readmitted {
    /// Counts an event.
    pub fn add(&mut self, readmission: Readmission) {
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
