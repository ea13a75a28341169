//! `cargo sim send`: what it takes, and how it reports.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Args;
use envelope::{CaseId, EventName, Timestamp};
use simulator::{
    EXAMPLE_CASE, EXAMPLE_EXTERNAL_ID, control,
    send::{Kind, Novelty, Subject, occurred_at},
    sender,
};

mod address;
mod post;

use address::Address;

/// What to send, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The event, for example extraction.completed.
    #[arg(value_parser = event_name)]
    event: EventName,
    /// The case ID [default: the documented example].
    #[arg(long, value_parser = case_id)]
    case: Option<String>,
    /// Your own reference for the case, 1 to 128 characters.
    #[arg(long, default_value = EXAMPLE_EXTERNAL_ID, value_parser = external_id)]
    external_id: String,
    /// When the stage finished (RFC 3339) [default: now].
    #[arg(long, value_parser = time, conflicts_with_all = ["late", "future"])]
    at: Option<String>,
    #[command(flatten)]
    kinds: Kinds,
    #[command(flatten)]
    address: Address,
}

/// What to send instead of a new event. At most one.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Kinds {
    /// Send the event twice. The repetition deserves 202 `duplicate`.
    #[arg(long)]
    duplicate: bool,
    /// Send the event, then the same event key with another body. Deserves 202 `duplicate`.
    #[arg(long)]
    conflict: bool,
    /// Send an event whose stage finished a week ago. Deserves 202.
    #[arg(long)]
    late: bool,
    /// Send an event of a stage that has not finished. Deserves 202; it becomes a dead letter
    /// later, or is retried until the stage has finished.
    #[arg(long)]
    forged: bool,
    /// Send an event whose stage finishes in an hour. Deserves 422.
    #[arg(long)]
    future: bool,
    /// Send an event whose name is not documented. Deserves 422, or 202 `quarantined` if the policy
    /// quarantines such events.
    #[arg(long)]
    unknown: bool,
    /// Send an event without its case ID. Deserves 422.
    #[arg(long)]
    incomplete: bool,
    /// Send an event that states another audience than `partner`. Deserves 403.
    #[arg(long)]
    other_audience: bool,
    /// Send half an event. Deserves 400.
    #[arg(long)]
    malformed: bool,
    /// Send no body. Deserves 400.
    #[arg(long)]
    empty: bool,
    /// Send 40 kB. Deserves 413.
    #[arg(long)]
    too_large: bool,
    /// Send an event as text/plain. Deserves 415.
    #[arg(long)]
    not_json: bool,
    /// Send an event with a wrong token in the path. Deserves 404.
    #[arg(long)]
    wrong_token: bool,
}

/// The case of a forged event, which no simulator knows.
const NO_SUCH_CASE: &str = "no-such-case";

/// Sends the requests, and prints each with its answer.
///
/// # Errors
/// If an argument is invalid, or a request gets no answer.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kind = arguments.kinds.chosen();
    let subject = arguments.subject(kind);
    let (target, simulator) = arguments.address.resolve()?;
    let client = sender::client();
    if let Some(url) = simulator.filter(|_| kind.is_true()) {
        control::report_finished(&client, &url, arguments.address.api_key(), &subject).await?;
    }
    let mut exit = ExitCode::SUCCESS;
    for request in kind.requests(&subject) {
        println!("{}\n", target.describe(&request));
        let reply = target.post(&client, &request).await?;
        println!("{reply}");
        if request.deserved.is_met_by(&reply.answer) {
            println!();
        } else {
            println!("NOT the deserved answer, which is {}\n", request.deserved);
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}

impl Arguments {
    /// The event that is sent.
    fn subject(&self, kind: Kind) -> Subject {
        let usual = if kind == Kind::Forged { NO_SUCH_CASE } else { EXAMPLE_CASE };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Subject {
            name: self.event,
            case: self.case.clone().unwrap_or_else(|| usual.to_owned()),
            external_id: Some(self.external_id.clone()),
            occurred_at: self.at.clone().unwrap_or_else(|| occurred_at(now_ms, kind.age_ms())),
            novelty: if self.at.is_some() { Novelty::Uncertain } else { Novelty::New },
        }
    }
}

impl Kinds {
    fn chosen(&self) -> Kind {
        let kinds = [
            (self.duplicate, Kind::Duplicate),
            (self.conflict, Kind::Conflict),
            (self.late, Kind::Late),
            (self.forged, Kind::Forged),
            (self.future, Kind::Future),
            (self.unknown, Kind::Unknown),
            (self.incomplete, Kind::Incomplete),
            (self.other_audience, Kind::OtherAudience),
            (self.malformed, Kind::Malformed),
            (self.empty, Kind::Empty),
            (self.too_large, Kind::TooLarge),
            (self.not_json, Kind::NotJson),
            (self.wrong_token, Kind::WrongToken),
        ];
        kinds.into_iter().find(|(is_chosen, _)| *is_chosen).map_or(Kind::Event, |(_, kind)| kind)
    }
}

fn event_name(text: &str) -> Result<EventName, String> {
    EventName::parse(text).or_else(|| EventName::parse(&format!("case.{text}"))).ok_or_else(|| {
        "must be classification, extraction, forensics or translation, then .completed or .failed".into()
    })
}

fn case_id(text: &str) -> Result<String, String> {
    let id = CaseId::new(text).ok_or("must be 1 to 128 characters of A-Z a-z 0-9 _ -")?;
    Ok(id.as_str().to_owned())
}

fn external_id(text: &str) -> Result<String, String> {
    let is_allowed = (1..=128).contains(&text.chars().count());
    is_allowed.then(|| text.to_owned()).ok_or_else(|| "must be 1 to 128 characters".into())
}

fn time(text: &str) -> Result<String, String> {
    Timestamp::parse(text).map(|_| text.to_owned()).ok_or_else(|| "must be like 2025-06-22T10:30:00Z".into())
}
