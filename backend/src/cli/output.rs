//! How commands print: tables for people, lines of JSON for programs.

use std::io::{IsTerminal, Write, stdout};

use clap::Args;
use serde::Serialize;

use crate::{
    events::{Event, State},
    time::rfc3339,
};

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// Print lines of JSON, as is done anyway if standard output is not a terminal.
    #[arg(long)]
    json: bool,
    /// Whether the heading of the table was printed.
    #[arg(skip)]
    has_heading: bool,
}

/// The width of a column with times.
pub(super) const TIME: usize = 24;
/// The width of a column with event keys: enough for the longest name and an identifier like that
/// in TruEnroll's documentation.
pub(super) const KEY: usize = 78;

impl Output {
    /// Returns whether to print tables.
    pub(super) fn is_table(self) -> bool {
        !self.json && stdout().is_terminal()
    }

    /// Prints an event as a row of the table, after its heading, or as a line of JSON.
    pub(super) fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if !self.is_table() {
            return json(event);
        }
        if !std::mem::replace(&mut self.has_heading, true) {
            writeln!(stdout(), "{:TIME$}  {:11}  {:>8}  {:KEY$}  DETAILS", "SINCE", "STATE", "ATTEMPTS", "EVENT")?;
        }
        Ok(writeln!(stdout(), "{}", row(event))?)
    }
}

/// Prints a line of JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(writeln!(stdout(), "{}", serde_json::to_string(value)?)?)
}

/// Returns text from Redis without the control characters, which a terminal might obey.
pub(super) fn plain(text: &str) -> String {
    text.replace(|character: char| character.is_control(), "\u{fffd}")
}

/// Returns the row of an event in a table.
fn row(event: &Event) -> String {
    let Event { key, state, since, attempts, .. } = event;
    let (since, key, details) = (rfc3339(*since), plain(key), details(event));
    let row = format!("{since:TIME$}  {state:11}  {attempts:>8}  {key:KEY$}  {details}");
    row.trim_end().to_owned()
}

fn details(event: &Event) -> String {
    let mut details = Vec::new();
    match (event.state, &event.error) {
        (State::Quarantined, _) => details.push(plain(&event.name)),
        (State::Completed, _) | (_, None) => {}
        (_, Some(error)) => details.push(plain(&format!("{}: {}", error.code, error.detail))),
    }
    if let Some(outcome) = event.outcome {
        details.push(outcome.as_str().to_owned());
    }
    if let Some(due) = event.next_attempt_at {
        details.push(format!("next attempt {}", rfc3339(due)));
    }
    if event.backfilled {
        details.push("backfilled".to_owned());
    }
    details.join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        inbox::{Delivered, LastError},
        time::from_millis,
    };

    pub(in crate::cli) fn event(state: State) -> Event {
        Event {
            key: "case.extraction.completed:c1:2025-06-22T10:30:00Z".to_owned(),
            name: "case.extraction.completed".to_owned(),
            feature: None,
            case: "c1".to_owned(),
            state,
            since: from_millis(1_750_588_200_123),
            received_at: from_millis(1_750_588_200_000),
            backfilled: false,
            attempts: 2,
            outcome: None,
            took: Duration::ZERO,
            next_attempt_at: None,
            error: Some(LastError {
                code: "sink_rejected".to_owned(),
                detail: "the application answered 500".to_owned(),
            }),
            failures: Vec::new(),
            trace_id: None,
        }
    }

    #[test]
    fn a_row_says_what_matters_in_the_events_state() {
        let completed = Event { outcome: Some(Delivered::Result), backfilled: true, ..event(State::Completed) };
        let retrying = Event { next_attempt_at: Some(from_millis(1_750_588_260_000)), ..event(State::Retrying) };
        let quarantined = Event { name: "case.\u{1b}[2J".to_owned(), ..event(State::Quarantined) };
        for (event, expected) in [
            (completed, "result; backfilled"),
            (retrying, "sink_rejected: the application answered 500; next attempt 2025-06-22T10:31:00Z"),
            (event(State::Dead), "sink_rejected: the application answered 500"),
            (quarantined, "case.\u{fffd}[2J"),
            (Event { error: None, ..event(State::Pending) }, ""),
        ] {
            let row = row(&event);
            assert!(row.starts_with("2025-06-22T10:30:00.123Z  "), "{row}");
            assert!(row.ends_with(expected), "{row}");
            assert_eq!(details(&event), expected);
        }
    }
}
