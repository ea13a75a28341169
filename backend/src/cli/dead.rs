//! `backend dead` and `backend replay`.

use std::{
    io::{Write, stdout},
    time::{Duration, SystemTime},
};

use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::{
    filter::Filter,
    output::{Output, json},
    parse,
};
use crate::{
    config::Config,
    events::{self, Event, State, Walk},
    inbox::{DeadLetter, Inbox, InboxError, Kept, Order},
    time::to_millis,
    units::count,
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

/// Reads the dead letters that a filter selects, oldest first.
struct Letters<'a> {
    walk: Walk<'a>,
    filter: events::Filter,
}

impl<'a> Letters<'a> {
    fn new(inbox: &'a Inbox, filter: &Filter) -> Self {
        let filter = filter.with(Some(State::Dead));
        Self { walk: Walk::new(inbox, &filter, Order::OldestFirst, None, usize::MAX), filter }
    }

    /// Returns the next one, and the event that it holds, or `None` after the last one.
    async fn next(&mut self) -> Result<Option<(DeadLetter, Event)>, InboxError> {
        while let Some(stored) = self.walk.next().await? {
            let event = Event::of(&stored).filter(|event| self.filter.selects(event));
            if let (Kept::Dead(letter), Some(event)) = (stored.what, event) {
                return Ok(Some((letter, event)));
            }
        }
        Ok(None)
    }
}

/// Prints the dead letters, oldest first.
pub(super) async fn list(config: &Config, filter: &Filter, output: Output) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut letters = Letters::new(&inbox, filter);
    let mut is_first = true;
    while let Some((letter, event)) = letters.next().await? {
        if std::mem::take(&mut is_first) {
            output.heading()?;
        }
        print(output, &letter, &event)?;
    }
    Ok(())
}

/// Returns dead letters to the inbox. Those of one lane keep the order in which they became dead
/// letters.
pub(super) async fn replay(
    config: &Config,
    filter: &Filter,
    options: ReplayOptions,
    output: Output,
) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let mut counts = Counts::default();
    let mut next_at = Instant::now();
    // An event that becomes a dead letter again during the replay is not replayed a second time.
    let started_at = SystemTime::now();
    let mut letters = Letters::new(&inbox, filter);
    while let Some((letter, event)) = letters.next().await? {
        if letter.dead_lettered_at > started_at {
            continue;
        }
        if letter.name.is_none() {
            counts.unreadable += 1;
        } else if options.dry_run {
            print(output, &letter, &event)?;
            counts.replayed += 1;
        } else {
            sleep_until(next_at).await;
            next_at = next_at.max(Instant::now()) + Duration::from_secs_f64(1.0 / options.rate);
            counts.replayed += u64::from(inbox.replay(&letter).await?);
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

fn print(output: Output, letter: &DeadLetter, event: &Event) -> anyhow::Result<()> {
    if output.is_table() {
        return output.event(event);
    }
    json(&serde_json::json!({
        "eventKey": letter.key, "code": letter.code, "detail": letter.detail, "attempts": letter.attempts,
        "receivedAtMs": to_millis(letter.received_at), "deadLetteredAtMs": to_millis(letter.dead_lettered_at),
        "failures": letter.failures,
    }))
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
