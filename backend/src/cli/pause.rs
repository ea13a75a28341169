//! `backend pause` and `backend resume`.

use std::{
    io::{Write, stdout},
    time::Duration,
};

use anyhow::bail;
use envelope::Feature;

use crate::{config::Config, inbox::Inbox};

/// How much longer than a lease to wait for confirmations. A backend that has gone counts as a
/// member for the duration of a lease.
const GRACE: Duration = Duration::from_secs(5);

/// Pauses a feature, and returns once no backend will begin another attempt for it.
///
/// # Errors
/// If Redis does not answer, or a backend does not confirm the pause in time.
pub(super) async fn pause(config: &Config, feature: Feature) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let version = inbox.pause(feature).await?;
    let unconfirmed = inbox.wait_for_confirmations(version, config.worker.lease + GRACE).await?;
    if !unconfirmed.is_empty() {
        bail!(
            "{feature} is paused, but these backends have not confirmed it and may still begin attempts: {} (each \
             backend logs its name as `member` at start; backends of older versions never confirm)",
            unconfirmed.join(", ")
        );
    }
    print(&inbox).await
}

/// Resumes a feature. Each backend continues as soon as it has noticed.
///
/// # Errors
/// If Redis does not answer.
pub(super) async fn resume(config: &Config, feature: Feature) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    inbox.resume(feature).await?;
    print(&inbox).await
}

/// Prints the paused features.
async fn print(inbox: &Inbox) -> anyhow::Result<()> {
    let paused = inbox.paused().await?.features;
    let names: Vec<_> =
        Feature::ALL.into_iter().filter(|feature| paused.contains(feature)).map(Feature::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Ok(writeln!(stdout(), "paused: {names}")?)
}
