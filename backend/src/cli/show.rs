//! `backend show`.

use std::{
    io::{self, Write, stdin, stdout},
    time::SystemTime,
};

use anyhow::{Context, bail};
use clap::Args;
use envelope::CaseId;
use serde_json::json;

use super::{
    NotFound,
    events::warn_without_history,
    output::{Output, TIME, json, plain},
    parse,
};
use crate::{
    config::Config,
    events::{Step, Story, Subject, stories},
    inbox::Inbox,
    partner_api::{PartnerApi, Search},
    time::rfc3339,
};

/// What to show.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// The key of an event, or the identifier of a case.
    #[arg(value_name = "KEY|CASE", value_parser = parse::subject, required_unless_present = "external_id")]
    subject: Option<Subject>,
    /// Ask the Partner API for the case with this reference of yours, and show that case.
    ///
    /// With `-`, the reference is read from standard input, so that it does not appear in the list
    /// of processes.
    #[arg(long, conflicts_with = "subject")]
    external_id: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Prints the story of an event, or of all events of a case.
pub(super) async fn run(config: &Config, options: &Options) -> anyhow::Result<()> {
    let subject = match (&options.subject, options.external_id.as_deref()) {
        (Some(subject), _) => subject.clone(),
        (None, Some("-")) => search(config, io::read_to_string(stdin())?.trim_end_matches(['\r', '\n'])).await?,
        (None, external_id) => search(config, external_id.unwrap_or_default()).await?,
    };
    let inbox = Inbox::connect_command(config).await?;
    let stories = stories(&inbox, &subject).await?;
    if stories.is_empty() {
        return not_found(config, &inbox, &subject, options.output).await;
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

/// Asks the Partner API for a case by the partner's own reference, which Redis has no index of because
/// it may be personal data.
async fn search(config: &Config, external_id: &str) -> anyhow::Result<Subject> {
    match PartnerApi::new(&config.partner_api)?.search(external_id).await? {
        Search::Found(case) => {
            Ok(Subject::Case(CaseId::new(case.id).context("the case has an undocumented identifier")?))
        }
        Search::None => Err(NotFound("TruEnroll has no case with this reference".to_owned()).into()),
        Search::Ignored => bail!(
            "the Partner API returned other cases: check whether it knows the query parameter that \
             `partner_api.paging.external_id_parameter` names"
        ),
    }
}

/// Says why nothing is stored: the event was received before and is no longer kept, it was never
/// received, or its case does not exist.
async fn not_found(config: &Config, inbox: &Inbox, subject: &Subject, output: Output) -> anyhow::Result<()> {
    let case = subject.case();
    let (what, was_received) = match subject {
        Subject::Event { key, case } => ("the event", inbox.was_received(case, key).await?),
        Subject::Case(case) => ("an event of the case", inbox.knows(case).await?),
    };
    let exists = match PartnerApi::new(&config.partner_api)?.case(case).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    };
    let state = if was_received { "notKept" } else { "neverReceived" };
    if !output.is_table() {
        let key = if let Subject::Event { key, .. } = subject { Some(key) } else { None };
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
    let Story { event, timeline, redelivered, .. } = story;
    let why = story.reason(now).map(|reason| format!(": {}", plain(&reason))).unwrap_or_default();
    let mut text = format!("{}\n  {} since {}{why}\n", plain(&event.key), event.state, rfc3339(event.since));
    for Step { at, what } in timeline {
        text += &format!("  {:TIME$}  {}\n", rfc3339(*at), plain(&what.words()));
    }
    if let Some(redelivered) = redelivered {
        text += &format!("  {}\n", redelivered.words());
    }
    if let Some(trace_id) = &event.trace_id {
        text += &format!("  traced as {trace_id}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::output::tests::event, *};
    use crate::events::{Event, State};

    #[test]
    fn the_story_of_a_traced_event_names_its_trace() {
        let now = SystemTime::UNIX_EPOCH;
        let said = |trace_id: Option<&str>| {
            let event = Event { trace_id: trace_id.map(str::to_owned), ..event(State::Completed) };
            text(&Story { event, waits_for: None, redelivered: None, timeline: Vec::new() }, now)
        };
        assert_eq!(said(Some("0af7")), said(None) + "  traced as 0af7\n");
    }
}
