//! The answers of the ingest: each has an HTTP response for the edge and a metric label.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use envelope::{EventKey, Rejection, headers, problem::MEDIA_TYPE as PROBLEM_MEDIA_TYPE};

use crate::inbox::{Accepted, Place};

/// What the ingest answers to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 202: the event is stored.
    Acknowledged(Acknowledgement, EventKey),
    /// The code's own status: the request passed the filter only in shadow mode, or is a probe.
    Rejected(Rejection),
    /// 503: the request does not show a proof that the backend knows. The filter and the backend
    /// were given different proofs, which is not the sender's fault.
    Unproven,
    /// 503: the filter marked the request in a way that this backend does not know. The filter is
    /// newer, and another backend may know the mark.
    UnknownMark,
    /// 503: the filter accepted or quarantined an event that this backend cannot read. The filter
    /// is newer, and another backend may be able to read the event.
    NewerFilter,
    /// 503: the event was not stored, or not in time.
    Unavailable,
}

/// Why an event counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// It is new, and in the inbox.
    Accepted,
    /// It is new and not documented, and in quarantine.
    Quarantined,
    /// It was a dead letter, and is in the inbox again.
    Revived,
    /// It was a dead letter, was received with another body, and is in the inbox again with the
    /// first body.
    RevivedConflict,
    /// It was received before.
    Duplicate,
    /// It was backfilled before it arrived.
    AlreadyBackfilled,
    /// It was received before with another body. The first body stands.
    Conflict,
}

impl Answer {
    /// The answer's metric label, and the value of `x-edge-rejection` unless the event is
    /// acknowledged.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Acknowledged(acknowledgement, _) => acknowledgement.label(),
            Self::Rejected(rejection) => rejection.code.as_str(),
            Self::Unproven => "unproven",
            Self::UnknownMark => "unknown_mark",
            Self::NewerFilter => "newer_filter",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Acknowledgement {
    /// The acknowledgement for an event that was brought to `place`.
    pub(super) fn of(accepted: Accepted, place: Place) -> Self {
        match (accepted, place) {
            (Accepted::Stored, Place::Inbox(_)) => Self::Accepted,
            (Accepted::Stored, Place::Quarantine) => Self::Quarantined,
            (Accepted::Duplicate, _) => Self::Duplicate,
            (Accepted::Revived, _) => Self::Revived,
            (Accepted::RevivedConflict, _) => Self::RevivedConflict,
            (Accepted::AlreadyBackfilled, _) => Self::AlreadyBackfilled,
            (Accepted::Conflict, _) => Self::Conflict,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Quarantined => "quarantined",
            Self::Revived => "revived",
            Self::RevivedConflict => "revived_conflict",
            Self::Duplicate => "duplicate",
            Self::AlreadyBackfilled => "already_backfilled",
            Self::Conflict => "conflict",
        }
    }

    /// The `status` that the sender is told: whether this delivery added the event to the inbox or
    /// the quarantine, or was a duplicate.
    fn status(self) -> &'static str {
        match self {
            Self::Accepted | Self::Revived | Self::RevivedConflict => "accepted",
            Self::Quarantined => "quarantined",
            Self::Duplicate | Self::AlreadyBackfilled | Self::Conflict => "duplicate",
        }
    }

    fn into_response(self, key: &EventKey) -> Response {
        // An event key needs no escaping in JSON.
        let body = format!(r#"{{"status":"{}","eventKey":"{key}"}}"#, self.status());
        let mut response = (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        set_header(&mut response, headers::EVENT_KEY, key.as_str());
        response
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let label = self.label();
        let mut response = match self {
            Self::Acknowledged(acknowledgement, key) => return acknowledgement.into_response(&key),
            Self::Rejected(rejection) => {
                let status = StatusCode::from_u16(rejection.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
                problem(status, rejection.to_problem_json())
            }
            Self::Unproven => send_again(label, "The backend does not know the filter's proof; send the event again"),
            Self::UnknownMark => send_again(label, "The backend does not know the filter's mark; send the event again"),
            Self::NewerFilter => {
                send_again(label, "The backend cannot read what the filter accepts; send the event again")
            }
            Self::Unavailable => send_again(label, "The event could not be stored. Send it again"),
        };
        set_header(&mut response, headers::REJECTION, label);
        response
    }
}

/// A 503 response with `Retry-After`: the sender did nothing wrong and should send the event again.
fn send_again(code: &str, title: &str) -> Response {
    let body =
        format!(r#"{{"type":"urn:truenroll-edge:problem:{code}","title":"{title}","status":503,"code":"{code}"}}"#);
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A response with problem details (RFC 9457).
fn problem(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response()
}

/// Sets a header of the response, unless the value has characters that no header can have.
pub(super) fn set_header(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests;
