//! `backend quarantine` and `backend readmit`.

use std::io::{Write, stdout};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Selection, output::json};
use crate::{
    config::Config,
    events::{self, Event, Filter, State, Walk},
    inbox::{Inbox, Order},
    time::to_millis,
};

/// Prints the quarantined events, oldest first.
pub(super) async fn list(config: &Config, Selection { filter, mut output }: Selection) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let filter = Filter { state: Some(State::Quarantined), ..filter };
    let mut walk = Walk::new(&inbox, &filter, Order::OldestFirst, None, usize::MAX);
    while let Some(stored) = walk.next().await? {
        let Some(event) = Event::of(&stored).filter(|event| filter.selects(event)) else { continue };
        if output.is_table() {
            output.event(&event)?;
        } else {
            let received_at_ms = to_millis(event.received_at);
            json(&json!({ "eventKey": event.key, "eventName": event.name, "receivedAtMs": received_at_ms }))?;
        }
    }
    Ok(())
}

/// Moves the quarantined events that this version knows to the inbox, and prints how many they
/// were.
pub(super) async fn readmit(config: &Config, filter: Filter) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let readmitted = events::readmit(&inbox, filter, &CancellationToken::new(), |_| ()).await?;
    Ok(writeln!(stdout(), "{readmitted}")?)
}
