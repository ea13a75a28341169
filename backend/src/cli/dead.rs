//! `backend dead` and `backend replay`.

use std::io::{Write, stdout};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    Selection,
    output::{Output, json},
    parse,
};
use crate::{
    config::Config,
    events::{Event, Letters, Replayed},
    inbox::{DeadLetter, Inbox},
    time::to_millis,
};

/// How to replay dead letters.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ReplayOptions {
    /// List the dead letters that would be replayed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// The most dead letters to replay per second.
    #[arg(long, default_value_t = 50.0, value_parser = parse::rate)]
    rate: f64,
}

/// Prints the dead letters, oldest first.
pub(super) async fn list(config: &Config, Selection { filter, mut output }: Selection) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut letters = Letters::new(&inbox, filter);
    while let Some((letter, event)) = letters.next().await? {
        print(&mut output, &letter, &event)?;
    }
    Ok(())
}

/// Returns the dead letters of this moment to the inbox, and prints how many they were. An event that
/// becomes a dead letter again during the replay is not replayed a second time.
pub(super) async fn replay(
    config: &Config,
    Selection { filter, mut output }: Selection,
    options: ReplayOptions,
) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let now = inbox.examined(config).slowest_clock().await?;
    let mut letters = Letters::new(&inbox, filter.before(now));
    if !options.dry_run {
        let replayed = letters.replay(options.rate, &CancellationToken::new(), |_| ()).await?;
        return Ok(writeln!(stdout(), "{}", replayed.summary("replayed"))?);
    }
    let mut selected = Replayed::default();
    while let Some((letter, event)) = letters.next().await? {
        selected.add(&letter, letter.name.is_some());
        if letter.name.is_some() {
            print(&mut output, &letter, &event)?;
        }
    }
    Ok(writeln!(stdout(), "{}", selected.summary("would replay"))?)
}

fn print(output: &mut Output, letter: &DeadLetter, event: &Event) -> anyhow::Result<()> {
    if output.is_table() {
        return output.event(event);
    }
    json(&serde_json::json!({
        "eventKey": letter.key, "code": letter.code, "detail": letter.detail, "attempts": letter.attempts,
        "receivedAtMs": to_millis(letter.received_at), "deadLetteredAtMs": to_millis(letter.dead_lettered_at),
        "failures": letter.failures,
    }))
}
