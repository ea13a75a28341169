//! What can go wrong with a call, and whether calling again can help.

use std::time::Duration;

use reqwest::StatusCode;

/// A call that failed. Says nothing of what was sent or answered, which could be personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Partner API: {kind}")]
pub struct PartnerApiError {
    /// What went wrong.
    pub kind: PartnerApiErrorKind,
    /// How long the API asks us to wait.
    pub retry_after: Option<Duration>,
}

/// What went wrong with a call. The statuses' meanings are TruEnroll's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartnerApiErrorKind {
    /// No connection, or one that broke.
    #[error("cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// 400: no upload of the case asked for this feature.
    #[error("no upload of the case asked for this result (400)")]
    NotRequested,
    /// 401: the key is missing or wrong. A setting of ours, so not the event's fault.
    #[error("the key is not valid (401)")]
    Unauthorized,
    /// 403: the key is no partner key or is inactive, or the organization lacks the feature.
    #[error("the key may not do this (403)")]
    Forbidden,
    /// 404: no such case. It was deleted, or the event was forged.
    #[error("no such case (404)")]
    CaseNotFound,
    /// 429.
    #[error("too many calls (429)")]
    TooManyRequests,
    /// 5xx.
    #[error("an error of its own ({0})")]
    Server(u16),
    /// Any other status.
    #[error("an unexpected status ({0})")]
    Unexpected(u16),
    /// We did not call, since too many calls were made or were to be made.
    #[error("not called: `partner_api.max_concurrent` or `rate_per_second` is reached")]
    Busy,
    /// We did not call, since most cases that were never seen before do not exist, and neither may this one.
    #[error("not called: most new cases do not exist, and their share (`partner_api.unknown_share`) is used up")]
    HeldBack,
    /// We did not call, since too many calls in a row had failed.
    #[error("not called, since it failed too often")]
    CircuitOpen,
    /// 200, with an answer that says `"success": false`.
    #[error("an answer that says that the call failed")]
    Unsuccessful,
    /// The answer is not what is documented.
    #[error("an answer that is not as documented")]
    Unreadable,
    /// A large answer could not be kept in a file until it is passed on.
    #[error("a large answer could not be written to `partner_api.spool_folder`")]
    NotKept,
    /// The answer is larger than we allow.
    #[error("an answer larger than `partner_api.max_response_bytes`")]
    TooLarge,
}

impl PartnerApiError {
    /// Whether nothing was called at all.
    pub fn was_not_called(&self) -> bool {
        matches!(
            self.kind,
            PartnerApiErrorKind::Busy | PartnerApiErrorKind::HeldBack | PartnerApiErrorKind::CircuitOpen
        )
    }

    /// Whether nothing was called because other calls use up the rate.
    pub fn is_busy(&self) -> bool {
        self.kind == PartnerApiErrorKind::Busy
    }

    /// Whether another case can be fetched all the same.
    pub fn is_of_one_case(&self) -> bool {
        use PartnerApiErrorKind as Kind;
        match self.kind {
            Kind::NotRequested
            | Kind::Forbidden
            | Kind::CaseNotFound
            | Kind::Server(_)
            | Kind::Unexpected(_)
            | Kind::Unsuccessful
            | Kind::Unreadable
            | Kind::NotKept
            | Kind::TooLarge => true,
            Kind::Unreachable
            | Kind::Timeout
            | Kind::Unauthorized
            | Kind::TooManyRequests
            | Kind::Busy
            | Kind::HeldBack
            | Kind::CircuitOpen => false,
        }
    }

    /// Whether there is no such case, or no such result of it.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, PartnerApiErrorKind::CaseNotFound | PartnerApiErrorKind::NotRequested)
    }

    /// Whether calling again can help.
    pub fn is_retryable(&self) -> bool {
        use PartnerApiErrorKind as Kind;
        match self.kind {
            Kind::NotRequested | Kind::CaseNotFound | Kind::TooLarge => false,
            Kind::Unreachable
            | Kind::Timeout
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::TooManyRequests
            | Kind::Busy
            | Kind::HeldBack
            | Kind::CircuitOpen
            | Kind::Server(_)
            | Kind::Unexpected(_)
            | Kind::Unsuccessful
            | Kind::Unreadable
            | Kind::NotKept => true,
        }
    }

    /// A name for the reason, for metrics and dead letters.
    pub fn code(&self) -> &'static str {
        use PartnerApiErrorKind as Kind;
        match self.kind {
            Kind::Unreachable => "api_unreachable",
            Kind::Timeout => "api_timeout",
            Kind::NotRequested => "api_not_requested",
            Kind::Unauthorized => "api_unauthorized",
            Kind::Forbidden => "api_forbidden",
            Kind::CaseNotFound => "api_case_not_found",
            Kind::TooManyRequests => "api_too_many_requests",
            Kind::Busy => "api_busy",
            Kind::HeldBack => "api_held_back",
            Kind::CircuitOpen => "api_circuit_open",
            Kind::Server(_) => "api_server_error",
            Kind::Unexpected(_) => "api_unexpected_status",
            Kind::Unsuccessful => "api_unsuccessful",
            Kind::Unreadable => "api_unreadable",
            Kind::NotKept => "api_not_kept",
            Kind::TooLarge => "api_too_large",
        }
    }
}

impl PartnerApiErrorKind {
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::NotRequested,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::CaseNotFound,
            429 => Self::TooManyRequests,
            server @ 500..=599 => Self::Server(server),
            other => Self::Unexpected(other),
        }
    }

    pub(super) fn of_call(error: &reqwest::Error) -> Self {
        if error.is_timeout() { Self::Timeout } else { Self::Unreachable }
    }
}

impl From<PartnerApiErrorKind> for PartnerApiError {
    fn from(kind: PartnerApiErrorKind) -> Self {
        Self { kind, retry_after: None }
    }
}
