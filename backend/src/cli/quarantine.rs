//! `backend quarantine` and `backend readmit`.

use std::io::{Write, stdout};

use crate::{
    config::Config,
    inbox::{
        Inbox,
        quarantine::{Quarantined, Readmission},
    },
    time::to_millis,
};

/// Prints a line of JSON for each event: its key, its name and when it was stored.
pub(super) async fn list(config: &Config) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
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

/// Moves what this version knows to the inbox, and says how many events that were.
pub(super) async fn readmit(config: &Config) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let (mut readmitted, mut known, mut still_unknown) = (0_u64, 0_u64, 0_u64);
    for partition in 0..inbox.partitions() {
        let mut after = None;
        loop {
            let page = inbox.quarantined(partition, after.as_deref()).await?;
            for event in &page {
                match inbox.readmit(event).await? {
                    Readmission::Readmitted => readmitted += 1,
                    Readmission::Known => known += 1,
                    Readmission::StillUnknown => still_unknown += 1,
                }
            }
            let Some(Quarantined { id, .. }) = page.last() else { break };
            after = Some(id.clone());
        }
    }
    writeln!(stdout(), "re-admitted {readmitted}, known before {known}, still unknown {still_unknown}")?;
    Ok(())
}
