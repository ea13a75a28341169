//! What pages have in common: what a handler is given, the frame around each page, and failures.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form, Json,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{Context, access::Visitor};
use crate::inbox::InboxError;

/// What a handler is given with each request.
pub(super) struct Asked {
    pub(super) context: Arc<Context>,
    pub(super) frame: Frame,
}

/// The form of a request, or its query.
pub(super) struct Sent<T>(pub(super) T);

/// What the frame around a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The page's path.
    path: String,
    /// Who looks at it.
    pub(super) visitor: Visitor,
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

impl FromRequestParts<Arc<Context>> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Response> {
        // The guard has added the frame.
        let frame = Extension::from_request_parts(parts, context).await.map_err(IntoResponse::into_response)?;
        Ok(Self { context: Arc::clone(context), frame: frame.0 })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let invalid = |_| {
            let advice = "Go back, reload the page and try again.";
            Failure::new(StatusCode::BAD_REQUEST, "The form is incomplete or invalid", advice)
        };
        Form::from_request(request, state).await.map(|Form(sent)| Self(sent)).map_err(invalid)
    }
}

impl Frame {
    /// The frame of the page at `path`.
    pub(super) fn new(path: String, visitor: Visitor) -> Self {
        Self { path, visitor }
    }

    /// Answers with a page, or, if a program asks, with what the page shows as JSON.
    pub(super) fn show(&self, page: &impl Template, view: &impl Serialize) -> Response {
        if self.is_for_programs() { Json(view).into_response() } else { html(page) }
    }

    fn is_for_programs(&self) -> bool {
        self.path.starts_with("/api/")
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
        if frame.is_for_programs() {
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

/// Splits a text at its backquotes, into what is prose and what is code.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (bool, &str)> {
    text.split('`').enumerate().map(|(position, piece)| (position % 2 == 1, piece))
}

/// Renders a page.
fn html(page: &impl Template) -> Response {
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
