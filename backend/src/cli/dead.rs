//! `backend dead` and `backend replay`.

use std::{
    io::{Write, stdout},
    time::{Duration, SystemTime},
};

use clap::Args;
use envelope::Feature;
use tokio::time::{Instant, sleep_until};

use super::parse;
use crate::{
    config::Config,
    inbox::{DeadLetter, Inbox, InboxError},
    time::to_millis,
    units::count,
};

/// Which dead letters to list or replay. Without options, all of them.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Only events of this feature.
    #[arg(long, value_parser = parse::feature)]
    feature: Option<Feature>,
    /// Only events of this case.
    #[arg(long)]
    case: Option<String>,
    /// Only dead letters with this error code, such as `api_timeout`.
    #[arg(long)]
    code: Option<String>,
    /// Only the event with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only events that were dead-lettered at this time or later (RFC 3339).
    #[arg(long, value_parser = parse::time)]
    since: Option<SystemTime>,
    /// Only events that were dead-lettered before this time (RFC 3339).
    #[arg(long, value_parser = parse::time)]
    until: Option<SystemTime>,
}

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

impl Filter {
    fn matches(&self, letter: &DeadLetter) -> bool {
        let (event, case) = letter.event.as_ref().map(|(event, case)| (*event, case.as_str())).unzip();
        self.feature.is_none_or(|feature| event.is_some_and(|event| event.feature == feature))
            && self.case.as_deref().is_none_or(|wanted| case == Some(wanted))
            && self.code.as_deref().is_none_or(|code| letter.code == code)
            && self.key.as_deref().is_none_or(|key| letter.key == key)
            && self.since.is_none_or(|since| letter.dead_lettered_at >= since)
            && self.until.is_none_or(|until| letter.dead_lettered_at < until)
    }
}

/// Reads all dead letters, partition by partition and page by page.
struct Pages<'a> {
    inbox: &'a Inbox,
    partition: u32,
    after: Option<String>,
}

impl<'a> Pages<'a> {
    fn of(inbox: &'a Inbox) -> Self {
        Self { inbox, partition: 0, after: None }
    }

    /// Returns the next page, which is not empty, or `None` after the last one.
    async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, InboxError> {
        while self.partition < self.inbox.partitions() {
            let page = self.inbox.dead_letters(self.partition, self.after.as_deref()).await?;
            if let Some(last) = page.last() {
                self.after = Some(last.id.clone());
                return Ok(Some(page));
            }
            self.partition += 1;
            self.after = None;
        }
        Ok(None)
    }
}

/// Prints one line of JSON for each dead letter.
pub(super) async fn list(config: &Config, filter: &Filter) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut pages = Pages::of(&inbox);
    while let Some(page) = pages.next().await? {
        for letter in page.iter().filter(|letter| filter.matches(letter)) {
            print(letter)?;
        }
    }
    Ok(())
}

/// Returns dead letters to the inbox. Those of one lane keep the order in which they became dead
/// letters.
pub(super) async fn replay(config: &Config, filter: &Filter, options: ReplayOptions) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut counts = Counts::default();
    let mut next_at = Instant::now();
    // An event that becomes a dead letter again during the replay is not replayed a second time.
    let started_at = SystemTime::now();
    let mut pages = Pages::of(&inbox);
    while let Some(page) = pages.next().await? {
        for letter in page.iter().filter(|letter| filter.matches(letter) && letter.dead_lettered_at <= started_at) {
            if letter.event.is_none() {
                counts.unreadable += 1;
            } else if options.dry_run {
                print(letter)?;
                counts.replayed += 1;
            } else {
                sleep_until(next_at).await;
                next_at = next_at.max(Instant::now()) + Duration::from_secs_f64(1.0 / options.rate);
                counts.replayed += u64::from(inbox.replay(letter).await?);
            }
        }
    }
    Ok(writeln!(stdout(), "{}", counts.summary(options.dry_run))?)
}

/// What a replay did.
#[derive(Debug, Default)]
struct Counts {
    replayed: u64,
    unreadable: u64,
}

impl Counts {
    fn summary(&self, dry_run: bool) -> String {
        let letters = count(self.replayed, "dead letter");
        let mut summary = if dry_run { format!("would replay {letters}") } else { format!("replayed {letters}") };
        match self.unreadable {
            0 => {}
            1 => summary += "; 1 cannot be replayed because its stored body is not an event",
            more => summary += &format!("; {more} cannot be replayed because their stored bodies are not events"),
        }
        summary
    }
}

fn print(letter: &DeadLetter) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "eventKey": letter.key, "code": letter.code, "detail": letter.detail, "attempts": letter.attempts,
        "deadLetteredAtMs": to_millis(letter.dead_lettered_at),
    });
    Ok(writeln!(stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_why_dead_letters_are_left() {
        for (replayed, unreadable, dry_run, expected) in [
            (3, 0, true, "would replay 3 dead letters"),
            (1, 0, false, "replayed 1 dead letter"),
            (12, 1, false, "replayed 12 dead letters; 1 cannot be replayed because its stored body is not an event"),
            (0, 2, false, "replayed 0 dead letters; 2 cannot be replayed because their stored bodies are not events"),
        ] {
            assert_eq!(Counts { replayed, unreadable }.summary(dry_run), expected);
        }
    }
}
