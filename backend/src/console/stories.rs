//! The pages Event and Case: what became of one event, or of all events of a case.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::{extract::Path, http::StatusCode, response::Response};
use envelope::CaseId;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Context,
    answer::{Asked, Failure, Frame, Sent},
};
use crate::{
    codes,
    config::Telemetry,
    doctor::Status,
    events::{self, Happened, Step, Story, Subject},
    partner_api::PartnerApiError,
    units::count,
};

/// What the pages show.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stories {
    case: String,
    /// The event; `None` if the page shows all events of the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_key: Option<String>,
    /// How many events are stored.
    total: usize,
    /// The stories of the latest of them, in the order in which they were received.
    events: Vec<Story>,
    /// Whether the event, or any event of the case, was received, as far as Redis remembers.
    was_received: bool,
    /// Whether completed events are recorded at all.
    has_history: bool,
}

/// What the Partner API says about the case.
enum Answer {
    NotAsked,
    CaseExists,
    NoSuchCase,
}

#[derive(Template)]
#[template(path = "stories.html")]
struct Page {
    frame: Frame,
    view: Stories,
    answer: Answer,
    now: SystemTime,
    /// Where the pages of traces are.
    telemetry: Telemetry,
}

/// The query of the page Event.
#[derive(Deserialize)]
pub(super) struct Key {
    key: String,
}

/// The form that asks the Partner API for a case.
#[derive(Deserialize)]
pub(super) struct Question {
    subject: String,
}

/// How many stories a page shows.
const SHOWN: usize = 100;
/// How long the events of a case may be read.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn event(asked: Asked, Sent(Key { key }): Sent<Key>) -> Result<Response, Failure> {
    show(asked, &event_of(&key)?, Answer::NotAsked).await
}

pub(super) async fn case(asked: Asked, Path(case): Path<String>) -> Result<Response, Failure> {
    show(asked, &case_of(case)?, Answer::NotAsked).await
}

/// Shows the page with what the Partner API says about the case. Changes nothing.
pub(super) async fn ask_api(asked: Asked, Sent(question): Sent<Question>) -> Result<Response, Failure> {
    let subject = Subject::parse(&question.subject).ok_or_else(|| not_found("case"))?;
    let answer = match asked.context.api.exists(subject.case()).await.map_err(unanswered)? {
        true => Answer::CaseExists,
        false => Answer::NoSuchCase,
    };
    show(asked, &subject, answer).await
}

/// Returns the path of the page about an event or a case. Neither identifier is personal data.
pub(super) fn path(subject: &Subject) -> String {
    match subject {
        Subject::Case(case) => format!("/case/{}", case.as_str()),
        Subject::Event { key, .. } => format!("/event?key={}", key.bytes().map(encoded).collect::<String>()),
    }
}

/// Returns a byte as it stands in a query.
fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Says why the Partner API gave no answer.
pub(super) fn unanswered(error: PartnerApiError) -> Failure {
    let advice = if error.was_not_called() { "Wait a moment, and ask again." } else { "Look at the page Health." };
    unavailable(&error.to_string(), advice)
}

pub(super) fn unavailable(title: &str, advice: &str) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, title, advice)
}

fn not_found(what: &str) -> Failure {
    let title = format!("There can be no such {what}");
    Failure::new(StatusCode::BAD_REQUEST, title, "Check whether the whole identifier was copied.")
}

fn event_of(key: &str) -> Result<Subject, Failure> {
    let subject = Subject::parse(key).filter(|subject| matches!(subject, Subject::Event { .. }));
    subject.ok_or_else(|| not_found("event"))
}

fn case_of(case: String) -> Result<Subject, Failure> {
    CaseId::new(case).map(Subject::Case).ok_or_else(|| not_found("case"))
}

async fn show(Asked { context, frame }: Asked, subject: &Subject, answer: Answer) -> Result<Response, Failure> {
    let view = Stories::read(&context, subject).await?;
    let telemetry = context.config().telemetry.clone();
    let page = Page { frame, view, answer, now: SystemTime::now(), telemetry };
    Ok(page.frame.show(&page, &page.view))
}

impl Page {
    /// Whether the page shows changes. The answer of the Partner API is shown once.
    fn is_live(&self) -> bool {
        matches!(self.answer, Answer::NotAsked)
    }
}

impl Stories {
    async fn read(context: &Context, subject: &Subject) -> Result<Self, Failure> {
        let inbox = &context.inbox;
        let too_much = |_| {
            let title = "The events of this case cannot be read in time";
            unavailable(title, "Its partition holds too many. Use `backend show`, which waits longer.")
        };
        let mut events = timeout(PATIENCE, events::stories(inbox, subject)).await.map_err(too_much)??;
        let total = events.len();
        let (event_key, was_received) = match subject {
            Subject::Event { key, case } => (Some(key.clone()), total > 0 || inbox.was_received(case, key).await?),
            Subject::Case(case) => (None, total > 0 || inbox.knows(case).await?),
        };
        events.drain(..total.saturating_sub(SHOWN));
        let (case, has_history) = (subject.case().as_str().to_owned(), inbox.has_history());
        Ok(Self { case, event_key, total, events, was_received, has_history })
    }

    fn total(&self) -> String {
        count(self.total as u64, "event")
    }

    /// What the page is about, as the form repeats it.
    fn subject(&self) -> &str {
        self.event_key.as_deref().unwrap_or(&self.case)
    }

    /// The events by feature, in the order of the features; at last those without one.
    fn by_feature(&self) -> Vec<(&'static str, Vec<&Story>)> {
        let features = envelope::Feature::ALL.map(Some).into_iter().chain([None]);
        let of = |feature: Option<envelope::Feature>| {
            let stories: Vec<_> = self.events.iter().filter(|story| story.event.feature == feature).collect();
            (feature.map_or("undocumented", envelope::Feature::as_str), stories)
        };
        features.map(of).filter(|(_, stories)| !stories.is_empty()).collect()
    }
}

/// What the last error of an event that is not completed means, and what to do.
fn explained(story: &Story) -> Option<(&'static str, &'static str)> {
    let error = story
        .event
        .error
        .as_ref()
        .filter(|_| matches!(story.event.state, events::State::Dead | events::State::Retrying))?;
    codes::explain(&error.code)
}

/// How a step looks.
fn status_of(step: &Step) -> Status {
    match step.what {
        Happened::Failed(_) => Status::Warning,
        Happened::DeadLettered { .. } => Status::Failure,
        _ => Status::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_event_or_the_case() {
        for (text, expected) in [
            ("6850abc123def456ghi789", "/case/6850abc123def456ghi789"),
            ("case.a.b:c1:2025-06-22T10:30:00Z", "/event?key=case.a.b:c1:2025-06-22T10:30:00Z"),
            ("case.a.b:c1:2025-06-22T12:30:00+02:00", "/event?key=case.a.b:c1:2025-06-22T12:30:00%2B02:00"),
            ("a&b#:c1:\u{e9}\n%", "/event?key=a%26b%23:c1:%C3%A9%0A%25"),
        ] {
            assert_eq!(path(&Subject::parse(text).unwrap()), expected);
        }
        assert!(event_of("c1").is_err() && case_of("c 1".to_owned()).is_err());
    }
}
