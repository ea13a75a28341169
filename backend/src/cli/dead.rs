//! `backend dead` and `backend replay`.

use std::{
    io::{Write, stdout},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use envelope::{Feature, Timestamp};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::Config,
    inbox::{DeadLetter, Inbox},
    time::to_millis,
};

/// Which dead letters; all of them where nothing is said.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Of a feature.
    #[arg(long, value_parser = super::feature)]
    feature: Option<Feature>,
    /// Of a case.
    #[arg(long)]
    case: Option<String>,
    /// With an error's code, `api_timeout` for example.
    #[arg(long)]
    code: Option<String>,
    /// One event, by its key.
    #[arg(long)]
    key: Option<String>,
    /// That were buried at this time or later (RFC 3339).
    #[arg(long, value_parser = time)]
    since: Option<SystemTime>,
    /// That were buried before this time (RFC 3339).
    #[arg(long, value_parser = time)]
    until: Option<SystemTime>,
}

/// How to replay.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Pace {
    /// Only say what would be replayed.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second.
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    rate: f64,
}

pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let instant = Timestamp::parse(text).ok_or("it must be like 2025-06-22T10:30:00Z")?;
    let millis = u64::try_from(instant.unix_millis()).map_err(|_| "it must not be before 1970")?;
    Ok(UNIX_EPOCH + Duration::from_millis(millis))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it must be a number")?;
    if (0.001..=100_000.0).contains(&rate) { Ok(rate) } else { Err("it must be from 0.001 to 100000".to_owned()) }
}

impl Filter {
    fn fits(&self, letter: &DeadLetter) -> bool {
        let (event, case) = letter.event.as_ref().map(|(event, case)| (*event, case.as_str())).unzip();
        self.feature.is_none_or(|feature| event.is_some_and(|event| event.feature == feature))
            && self.case.as_deref().is_none_or(|wanted| case == Some(wanted))
            && self.code.as_deref().is_none_or(|code| letter.code == code)
            && self.key.as_deref().is_none_or(|key| letter.key == key)
            && self.since.is_none_or(|since| letter.buried_at >= since)
            && self.until.is_none_or(|until| letter.buried_at < until)
    }
}

/// Prints a line of JSON for each dead letter.
pub(super) async fn list(config: &Config, filter: &Filter) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    for partition in 0..inbox.partitions() {
        let mut after = None;
        loop {
            let page = inbox.dead_letters(partition, after.as_deref()).await?;
            for letter in page.iter().filter(|letter| filter.fits(letter)) {
                print(letter)?;
            }
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
        }
    }
    Ok(())
}

/// Moves dead letters back to the inbox, those of a lane in the order in which they were buried.
pub(super) async fn replay(config: &Config, filter: &Filter, how: Pace) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let (mut replayed, mut no_event, mut due) = (0_u64, 0_u64, Instant::now());
    // What is buried again while we replay is not replayed again.
    let begun = SystemTime::now();
    for partition in 0..inbox.partitions() {
        let mut after = None;
        loop {
            let page = inbox.dead_letters(partition, after.as_deref()).await?;
            for letter in page.iter().filter(|letter| filter.fits(letter) && letter.buried_at <= begun) {
                if letter.event.is_none() {
                    no_event += 1;
                    continue;
                }
                if how.dry_run {
                    print(letter)?;
                    replayed += 1;
                } else {
                    sleep_until(due).await;
                    due = due.max(Instant::now()) + Duration::from_secs_f64(1.0 / how.rate);
                    replayed += u64::from(inbox.replay(letter).await?);
                }
            }
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
        }
    }
    let said = if how.dry_run { "would be replayed" } else { "replayed" };
    writeln!(stdout(), "{replayed} {said}, {no_event} are no events and stay")?;
    Ok(())
}

fn print(letter: &DeadLetter) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "eventKey": letter.key, "code": letter.code, "detail": letter.detail, "attempts": letter.attempts,
        "deadLetteredAtMs": to_millis(letter.buried_at),
    });
    Ok(writeln!(stdout(), "{line}")?)
}
