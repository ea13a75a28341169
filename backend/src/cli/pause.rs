//! `backend pause` and `backend resume`.

use std::{
    io::{Write, stdout},
    time::Duration,
};

use anyhow::bail;
use envelope::Feature;
use tokio::time::{Instant, sleep};

use crate::{config::Config, inbox::Inbox};

/// How often the backends are asked whether they keep to it.
const ASKING: Duration = Duration::from_millis(50);
/// How much longer than a lease a backend may take. One that is gone counts as at work for a lease.
const GRACE: Duration = Duration::from_secs(5);

/// Lets a feature's events wait, and returns once no backend begins a new attempt of them.
pub(super) async fn pause(config: &Config, feature: Feature) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let version = inbox.pause(feature, true).await?;
    let deadline = Instant::now() + config.worker.lease + GRACE;
    loop {
        let unconfirmed = inbox.unconfirmed(version).await?;
        if unconfirmed.is_empty() {
            return print(&inbox).await;
        }
        if Instant::now() > deadline {
            bail!(
                "{feature} is paused, but backends have not confirmed it and may still begin attempts: {} (each logs its \
                 name as `member` at start; an older version never confirms)",
                unconfirmed.join(", ")
            );
        }
        sleep(ASKING).await;
    }
}

/// Has a feature's events worked on again, by each backend as soon as it hears of it.
pub(super) async fn resume(config: &Config, feature: Feature) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    inbox.pause(feature, false).await?;
    print(&inbox).await
}

async fn print(inbox: &Inbox) -> anyhow::Result<()> {
    let paused = inbox.paused().await?.features;
    let names: Vec<_> =
        Feature::ALL.into_iter().filter(|feature| paused.contains(feature)).map(Feature::as_str).collect();
    Ok(writeln!(stdout(), "paused: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })?)
}
