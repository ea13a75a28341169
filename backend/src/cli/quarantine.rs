//! `backend quarantine` and `backend readmit`.

use std::{
    io::{Write, stdout},
    ops::ControlFlow,
};

use crate::{config::Config, inbox::Inbox, time::to_millis};

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
    let readmitted = inbox.readmit_until(u64::MAX, |_| ControlFlow::Continue(())).await?;
    Ok(writeln!(stdout(), "{readmitted}")?)
}
