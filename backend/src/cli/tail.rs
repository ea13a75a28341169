//! `backend tail`.

use std::{
    io::{Write, stderr, stdout},
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Selection,
    output::{KEY, Output, TIME, json, plain},
};
use crate::{
    config::Config,
    events::{Occurrence, Tail},
    inbox::Inbox,
    time::rfc3339,
};

/// Interval between two looks at the history.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Prints what happens to events until it is stopped, or until the time that the filter states.
pub(super) async fn run(config: &Config, Selection { filter, output }: Selection) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    ensure!(inbox.has_history(), "there is nothing to follow: `history.enabled` is false");
    // A partition may move to another server meanwhile.
    tokio::spawn(inbox.clone().watch_servers(CancellationToken::new()));
    let until = filter.until;
    let mut tail = Tail::new(&inbox, filter).await?;
    let mut has_failed = false;
    loop {
        let is_over = until.is_some_and(|until| until <= SystemTime::now());
        match tail.next().await {
            Ok(Some(occurrence)) => print(output, &occurrence)?,
            Ok(None) if is_over => return Ok(()),
            Ok(None) => {
                has_failed = false;
                sleep(POLL_INTERVAL).await;
            }
            Err(error) => {
                if !has_failed {
                    writeln!(stderr(), "waiting for Redis; nothing is skipped meanwhile: {error}")?;
                }
                has_failed = true;
                sleep(POLL_INTERVAL).await;
            }
        }
    }
}

fn print(output: Output, occurrence: &Occurrence) -> anyhow::Result<()> {
    if !output.is_table() {
        return json(occurrence);
    }
    let Occurrence { key, step, .. } = occurrence;
    Ok(writeln!(stdout(), "{:TIME$}  {:KEY$}  {}", rfc3339(step.at), plain(key), plain(&step.what.words()))?)
}
