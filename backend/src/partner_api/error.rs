//! The errors of a call, and whether another call can help.

use std::time::Duration;

use reqwest::StatusCode;

/// A call of the Partner API that failed. Says nothing about what was sent or answered, since both
/// can be personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Partner API {kind}")]
pub struct PartnerApiError {
    /// What went wrong.
    pub kind: PartnerApiErrorKind,
    /// The wait before another call that the API, or the limits on calls, ask for.
    pub retry_after: Option<Duration>,
}

/// What went wrong with a call. The meanings of the statuses are TruEnroll's.
///
/// Each text continues "the Partner API …" and is what an operator reads in a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartnerApiErrorKind {
    /// The connection could not be made, or it broke.
    #[error("cannot be reached: check `partner_api.base_url` and the network")]
    Unreachable,
    /// No answer in time.
    #[error("did not answer within `partner_api.timeout_ms`")]
    Timeout,
    /// 400: no upload of the case requested the feature.
    #[error("answered 400: no upload of the case requested this result")]
    NotRequested,
    /// 401: the key is missing or wrong. This is an error of the settings, not of the event.
    #[error("rejected the API key (401): check `partner_api.api_key`")]
    Unauthorized,
    /// 403: the key is inactive or not a partner key, or the organization lacks the feature.
    #[error(
        "denied access (403): the API key is inactive or not a partner key, or the organization lacks the feature; ask \
         TruEnroll"
    )]
    Forbidden,
    /// 404: the case does not exist. It was deleted, or the event was forged.
    #[error("has no such case (404): the case was deleted, or the event was forged")]
    CaseNotFound,
    /// 429: too many calls.
    #[error("received too many calls (429): if it lasts, lower `partner_api.rate_per_second`")]
    TooManyRequests,
    /// 5xx: an error of the API's own.
    #[error("answered {0}, an error of its own: if it lasts, ask TruEnroll")]
    Server(u16),
    /// Any other status.
    #[error("answered with the unexpected status {0}: check `partner_api.base_url`")]
    Unexpected(u16),
    /// No call was made: a limit on calls is reached.
    #[error("was not called: `partner_api.max_concurrent` or `partner_api.rate_per_second` is reached")]
    Busy,
    /// No call was made: most new cases do not exist, and calls for new cases are limited.
    #[error(
        "was not called: most new cases do not exist, and their share of the calls (`partner_api.unknown_share`) is \
         used up"
    )]
    HeldBack,
    /// No call was made: too many calls in a row have failed.
    #[error(
        "was not called: `partner_api.breaker_failures` calls in a row failed, so none is made for \
         `partner_api.breaker_open_ms`"
    )]
    CircuitOpen,
    /// 200, with an answer that says `"success": false`.
    #[error("answered 200 with `\"success\": false`: the call failed")]
    Unsuccessful,
    /// 200, with an answer that is not as documented.
    #[error("gave an answer that is not as documented: check that `partner_api.base_url` is the Partner API")]
    Unreadable,
    /// A large answer could not be written to a file.
    #[error("gave a large answer that cannot be written to `partner_api.spool_folder`: check that disk")]
    NotKept,
    /// The answer is larger than the settings allow.
    #[error("gave an answer larger than `partner_api.max_response_bytes`: raise it, then replay the dead letter")]
    TooLarge,
}

impl PartnerApiError {
    /// Whether the backend made no call at all.
    pub fn was_not_called(&self) -> bool {
        matches!(
            self.kind,
            PartnerApiErrorKind::Busy | PartnerApiErrorKind::HeldBack | PartnerApiErrorKind::CircuitOpen
        )
    }

    /// Whether the backend made no call because a limit on calls is reached.
    pub fn is_busy(&self) -> bool {
        self.kind == PartnerApiErrorKind::Busy
    }

    /// Whether the error concerns one case, so that calls for other cases can succeed.
    pub(crate) fn is_of_one_case(&self) -> bool {
        !self.was_not_called()
            && !matches!(
                self.kind,
                PartnerApiErrorKind::Unreachable
                    | PartnerApiErrorKind::Timeout
                    | PartnerApiErrorKind::Unauthorized
                    | PartnerApiErrorKind::TooManyRequests
            )
    }

    /// Whether the case, or the requested result of it, does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, PartnerApiErrorKind::CaseNotFound | PartnerApiErrorKind::NotRequested)
    }

    /// Whether another call can succeed.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self.kind,
            PartnerApiErrorKind::NotRequested | PartnerApiErrorKind::CaseNotFound | PartnerApiErrorKind::TooLarge
        )
    }

    /// Returns the error's name in metrics and dead letters.
    pub fn code(&self) -> &'static str {
        match self.kind {
            PartnerApiErrorKind::Unreachable => "api_unreachable",
            PartnerApiErrorKind::Timeout => "api_timeout",
            PartnerApiErrorKind::NotRequested => "api_not_requested",
            PartnerApiErrorKind::Unauthorized => "api_unauthorized",
            PartnerApiErrorKind::Forbidden => "api_forbidden",
            PartnerApiErrorKind::CaseNotFound => "api_case_not_found",
            PartnerApiErrorKind::TooManyRequests => "api_too_many_requests",
            PartnerApiErrorKind::Server(_) => "api_server_error",
            PartnerApiErrorKind::Unexpected(_) => "api_unexpected_status",
            PartnerApiErrorKind::Busy => "api_busy",
            PartnerApiErrorKind::HeldBack => "api_held_back",
            PartnerApiErrorKind::CircuitOpen => "api_circuit_open",
            PartnerApiErrorKind::Unsuccessful => "api_unsuccessful",
            PartnerApiErrorKind::Unreadable => "api_unreadable",
            PartnerApiErrorKind::NotKept => "api_not_kept",
            PartnerApiErrorKind::TooLarge => "api_too_large",
        }
    }
}

impl PartnerApiErrorKind {
    /// Returns the error that a status other than 200 means.
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

    /// Returns the error of a call that got no whole answer.
    pub(super) fn of_call(error: &reqwest::Error) -> Self {
        if error.is_timeout() { Self::Timeout } else { Self::Unreachable }
    }
}

impl From<PartnerApiErrorKind> for PartnerApiError {
    fn from(kind: PartnerApiErrorKind) -> Self {
        Self { kind, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_call_again_and_whether_other_cases_are_affected() {
        for (status, code, is_retryable, is_of_one_case) in [
            (400, "api_not_requested", false, true),
            (401, "api_unauthorized", true, false),
            (403, "api_forbidden", true, true),
            (404, "api_case_not_found", false, true),
            (429, "api_too_many_requests", true, false),
            (500, "api_server_error", true, true),
            (599, "api_server_error", true, true),
            (204, "api_unexpected_status", true, true),
            (302, "api_unexpected_status", true, true),
        ] {
            let error = PartnerApiError::from(PartnerApiErrorKind::of_status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(error.code(), code, "{status}");
            assert_eq!(error.is_retryable(), is_retryable, "{status}");
            assert_eq!(error.is_of_one_case(), is_of_one_case, "{status}");
            assert!(!error.was_not_called(), "{status}");
        }
    }

    #[test]
    fn a_text_is_a_sentence_about_the_partner_api() {
        let error = PartnerApiError::from(PartnerApiErrorKind::Unauthorized);
        assert_eq!(error.to_string(), "the Partner API rejected the API key (401): check `partner_api.api_key`");
    }
}
