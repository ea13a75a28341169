//! What the edge is told when we do not say yes (RFC 9457).

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use envelope::{Rejection, problem::MEDIA_TYPE};

/// Why we do not say yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The request shows no proof that this backend knows. It must be sent again: the proof that the filter was published
    /// with and the one that the backend was given differ, which is not the sender's fault.
    Unproven,
    /// The filter let through what is no event: it was built from another contract than we were.
    Rejected(Rejection),
    /// The event could not be stored, or not in time. It must be sent again.
    Unavailable,
}

impl Problem {
    /// The problem's code, for metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Rejected(rejection) => rejection.code.as_str(),
            Self::Unavailable => "unavailable",
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Unproven => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"type":"urn:truenroll-edge:problem:unproven","title":"The backend does not know the proof of the filter; send the event again","status":503,"code":"unproven"}"#
                    .to_owned(),
            ),
            Self::Rejected(rejection) => {
                let status = StatusCode::from_u16(rejection.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
                (status, rejection.to_problem_json())
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"type":"urn:truenroll-edge:problem:unavailable","title":"The event could not be stored; send it again","status":503,"code":"unavailable"}"#
                    .to_owned(),
            ),
        };
        let media_type = [(header::CONTENT_TYPE, MEDIA_TYPE)];
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return (status, media_type, [(header::RETRY_AFTER, "1")], body).into_response();
        }
        (status, media_type, body).into_response()
    }
}
