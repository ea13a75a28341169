//! `backend quarantine` and `backend readmit`.

use std::io::{Write, stdout};

use crate::{
    config::Config,
    inbox::{
        Inbox,
        quarantine::{Quarantined, Readmission},
    },
    time::to_millis,
    units::count,
};

/// Prints one line of JSON for each quarantined event: its key, its name, and when it was stored.
pub(super) async fn list(config: &Config) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    for partition in 0..inbox.partitions() {
        let mut after = None;
        loop {
            let page = inbox.quarantined(partition, after.as_deref()).await?;
            for event in &page {
                let received_at_ms = to_millis(event.received_at);
                let line = serde_json::json!({
                    "eventKey": event.key, "eventName": event.event_name(), "receivedAtMs": received_at_ms,
                });
                writeln!(stdout(), "{line}")?;
            }
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
        }
    }
    Ok(())
}

/// Moves the quarantined events that this version knows to the inbox, and prints how many they
/// were.
pub(super) async fn readmit(config: &Config) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut counts = Counts::default();
    for partition in 0..inbox.partitions() {
        let mut after = None;
        loop {
            let page = inbox.quarantined(partition, after.as_deref()).await?;
            for event in &page {
                match inbox.readmit(event).await? {
                    Readmission::Readmitted => counts.readmitted += 1,
                    Readmission::Known => counts.received_before += 1,
                    Readmission::StillUnknown => counts.still_unknown += 1,
                }
            }
            let Some(Quarantined { id, .. }) = page.last() else { break };
            after = Some(id.clone());
        }
    }
    Ok(writeln!(stdout(), "{}", counts.summary())?)
}

/// What a re-admission did.
#[derive(Debug, Default)]
struct Counts {
    readmitted: u64,
    received_before: u64,
    still_unknown: u64,
}

impl Counts {
    fn summary(&self) -> String {
        let mut summary = format!("readmitted {}", count(self.readmitted, "event"));
        if self.received_before > 0 {
            summary += &format!("; removed {} received before", count(self.received_before, "event"));
        }
        if self.still_unknown > 0 {
            summary += &format!("; left {} that this version does not know", count(self.still_unknown, "event"));
        }
        summary
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
            assert_eq!(Counts { readmitted, received_before, still_unknown }.summary(), expected);
        }
    }
}
