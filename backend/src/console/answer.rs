//! What pages have in common: the frame around each of them, and failures.

use askama::Template;
use axum::{
    extract::rejection::FormRejection,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::json;

use super::access::Visitor;
use crate::{config::Role, inbox::InboxError};

/// What the frame around a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The page's path.
    path: String,
    /// Who looks at it; empty for a stranger.
    pub(super) visitor: String,
    /// Whether the visitor may change something.
    pub(super) may_operate: bool,
}

/// Why there is no page. As an answer of a handler, it is only a note for
/// [`guard`](super::guard), which knows who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    title: String,
    advice: String,
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: &'a Frame,
    failure: &'a Failure,
}

impl Frame {
    /// The frame of the page at `path`.
    pub(super) fn new(path: &str, visitor: &Visitor) -> Self {
        Self { path: path.to_owned(), visitor: visitor.name.clone(), may_operate: visitor.role == Role::Operate }
    }

    /// The frame of a page that rejects a request.
    pub(super) fn of_stranger(path: &str) -> Self {
        Self { path: path.to_owned(), visitor: String::new(), may_operate: false }
    }

    /// Whether this is the page at `path`, or one below it.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.path == path || (path != "/" && self.path.starts_with(path))
    }

    /// The pages, in the order in which they are listed.
    #[allow(clippy::unused_self, reason = "called from a template")]
    pub(super) fn pages(&self) -> [(&'static str, &'static str); 5] {
        [
            ("/", "Overview"),
            ("/events", "Events"),
            ("/dead-letters", "Dead letters"),
            ("/quarantine", "Quarantine"),
            ("/health", "Health"),
        ]
    }
}

impl Failure {
    pub(super) fn new(status: StatusCode, title: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status, title: title.into(), advice: advice.into() }
    }

    /// The answer for a reader: a page, or problem details (RFC 9457) for programs.
    pub(super) fn shown_in(self, frame: &Frame) -> Response {
        if frame.path.starts_with("/api/") {
            let problem = json!({ "title": self.title, "detail": self.advice, "status": self.status.as_u16() });
            return (self.status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string())
                .into_response();
        }
        let mut response = html(&FailurePage { frame, failure: &self });
        *response.status_mut() = self.status;
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InboxError> for Failure {
    fn from(error: InboxError) -> Self {
        let advice =
            "Nothing was changed, or it is unknown whether it was. Events are answered 503 until Redis answers.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), advice)
    }
}

impl From<FormRejection> for Failure {
    fn from(_: FormRejection) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "The form is incomplete or invalid",
            "Go back, reload the page and try again.",
        )
    }
}

/// Splits a text at its backquotes, into what is prose and what is code.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split('`').enumerate().map(|(position, piece)| (position % 2 == 1, piece))
}

/// Renders a page.
pub(super) fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the console cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Answers a request for a page that does not exist.
pub(super) async fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "There is no such page", "Choose a page above.")
}
