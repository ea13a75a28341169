//! `backend show`.

use std::{
    io::{Write, stdout},
    time::SystemTime,
};

use clap::Args;
use serde_json::json;

use super::{
    NotFound,
    events::warn_without_history,
    output::{Output, TIME, happened, json, plain, time},
    parse,
};
use crate::{
    config::Config,
    events::{Event, State, Step, Story, Subject, WaitsFor, stories},
    inbox::Inbox,
    partner_api::PartnerApi,
};

/// What to show.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// The key of an event, or the identifier of a case.
    #[arg(value_name = "KEY|CASE", value_parser = parse::subject)]
    subject: Subject,
    #[command(flatten)]
    output: Output,
}

/// Prints the story of an event, or of all events of a case.
pub(super) async fn run(config: &Config, options: &Options) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let stories = stories(&inbox, &options.subject).await?;
    if stories.is_empty() {
        return not_found(config, &inbox, options).await;
    }
    for story in &stories {
        if options.output.is_table() {
            writeln!(stdout(), "{}", text(story, SystemTime::now()))?;
        } else {
            json(story)?;
        }
    }
    warn_without_history(&inbox)
}

/// Says why nothing is stored: the event was received before and is no longer kept, it was never
/// received, or its case does not exist.
async fn not_found(config: &Config, inbox: &Inbox, options: &Options) -> anyhow::Result<()> {
    let case = options.subject.case();
    let (what, was_received) = match &options.subject {
        Subject::Event { key, case } => ("the event", inbox.was_received(case, key).await?),
        Subject::Case(case) => ("an event of the case", inbox.knows(case).await?),
    };
    let exists = match PartnerApi::new(&config.partner_api)?.case(case).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    };
    let state = if was_received { "notKept" } else { "neverReceived" };
    if !options.output.is_table() {
        let key = if let Subject::Event { key, .. } = &options.subject { Some(key) } else { None };
        json(&json!({ "eventKey": key, "case": case.as_str(), "state": state, "caseExists": exists.as_ref().ok() }))?;
    }
    let received = if was_received {
        format!("{what} was received, but its history is no longer kept")
    } else {
        format!("{what} was never received")
    };
    let exists = match exists {
        Ok(true) => "the case exists at TruEnroll".to_owned(),
        Ok(false) => "the case does not exist at TruEnroll".to_owned(),
        Err(error) => format!("whether the case exists is unknown: {error}"),
    };
    Err(NotFound(format!("{received}; {exists}")).into())
}

/// Returns the story for a person to read.
fn text(story: &Story, now: SystemTime) -> String {
    let Story { event, waits_for, timeline } = story;
    let mut text = format!("{}\n", plain(&event.key));
    text +=
        &format!("  {} since {}{}\n", event.state.as_str(), time(event.since), more(event, waits_for.as_ref(), now));
    for Step { at, what } in timeline {
        text += &format!("  {:TIME$}  {}\n", time(*at), plain(&happened(what)));
    }
    text
}

/// Returns what to add to the state of an event.
fn more(event: &Event, waits_for: Option<&WaitsFor>, now: SystemTime) -> String {
    if event.state == State::Quarantined {
        return format!(", because this version does not know {}", plain(&event.name));
    }
    let due = event.next_attempt_at.map(|due| match due.duration_since(now) {
        Ok(left) => format!("the next attempt is due {} (in {} s)", time(due), left.as_secs()),
        Err(_) => format!("the next attempt has been due since {}", time(due)),
    });
    let reason = match waits_for {
        None => return String::new(),
        Some(WaitsFor::Turn) => "it is its turn, or an attempt is in progress".to_owned(),
        Some(WaitsFor::Retry) => return due.map(|due| format!(": {due}")).unwrap_or_default(),
        Some(WaitsFor::EarlierEvent(key)) => {
            format!("an earlier event of its lane has to be handled first: {}", plain(key))
        }
        Some(WaitsFor::Resume) => "its feature is paused".to_owned(),
        Some(WaitsFor::Backend) => "no backend works on its partition".to_owned(),
    };
    format!(": {reason}")
}
