//! Checks a running edge from outside: `guardctl verify URL`.
//!
//! A misconfigured edge often looks healthy: some requests get the right answer and others hang or
//! pass unjudged. [`verify`] sends one request of each [kind](Check), [`judge()`] compares the
//! answers with what a correctly configured edge answers, and each [`Fault`] says what to change.
//!
//! Every request except [`Check::TestEvent`] is rejected under any policy, so none of them stores
//! an event.

use std::{fmt, thread, time::Duration};

use envelope::SigningKey;

mod fault;
mod judge;
mod send;

pub use fault::Fault;
pub use judge::judge;
pub use send::{Answer, NoAnswer};

/// What to verify, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The webhook's URL without a token, for example
    /// `https://hooks.example.com/webhooks/truenroll`.
    pub url: String,
    /// The path token that the policy requires, if it requires one.
    pub token: Option<String>,
    /// The key to sign with, if the policy requires signatures.
    pub signing_key: Option<SigningKey>,
    /// Paths of the same listener that the filter must leave alone.
    pub other_paths: Vec<String>,
    /// Whether to send [`Check::TestEvent`].
    pub test_event: TestEvent,
    /// How long to wait for each answer.
    pub timeout: Duration,
}

/// Whether a valid event is sent, which the backend stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestEvent {
    /// Store nothing.
    Omit,
    /// Send a valid event of the artificial case [`TEST_CASE`].
    Store,
}

/// The case of the event that [`Check::TestEvent`] stores. TruEnroll has no such case, so the
/// backend dead-letters the event.
pub const TEST_CASE: &str = "guardctl-verify";

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A GET of a path below the webhook: 404.
    UnknownPath,
    /// A GET of the webhook: 405.
    WrongMethod,
    /// A POST whose body is not JSON: 400.
    MalformedBody,
    /// A POST whose body is JSON but not a complete event: 422.
    IncompleteEvent,
    /// The same body, chunked: 422.
    ChunkedBody,
    /// The same body over HTTP/2, ended by trailers: 422.
    Trailers,
    /// The same body with a forged `x-edge-judged` header: 422.
    ForgedJudgement,
    /// A GET of another path, which the filter must not judge.
    OtherGet(String),
    /// A POST of an invalid event to another path, which the filter must not judge.
    OtherPost(String),
    /// A valid event: 202.
    TestEvent,
}

/// Sends every request and returns the replies in the order of the checks.
pub fn verify(target: &Target) -> Vec<(Check, Result<Answer, NoAnswer>)> {
    let checks = checks(target);
    // All at the same time, because on a misconfigured edge each of them may take until the
    // timeout.
    thread::scope(|scope| {
        let running: Vec<_> = checks.iter().map(|check| scope.spawn(|| send::send(target, check))).collect();
        let panicked = |_| Err(NoAnswer::Broken("the check itself failed".to_owned()));
        let replies = running.into_iter().map(|check| check.join().unwrap_or_else(panicked));
        checks.iter().cloned().zip(replies).collect()
    })
}

/// The checks for a target.
fn checks(target: &Target) -> Vec<Check> {
    let mut checks = vec![
        Check::UnknownPath,
        Check::WrongMethod,
        Check::MalformedBody,
        Check::IncompleteEvent,
        Check::ChunkedBody,
        Check::ForgedJudgement,
    ];
    if can_send_trailers(target) {
        checks.push(Check::Trailers);
    }
    for path in &target.other_paths {
        checks.push(Check::OtherGet(path.clone()));
        checks.push(Check::OtherPost(path.clone()));
    }
    if target.test_event == TestEvent::Store {
        checks.push(Check::TestEvent);
    }
    checks
}

/// Whether [`Check::Trailers`] can be sent: guardctl speaks HTTP/2 only without TLS.
pub fn can_send_trailers(target: &Target) -> bool {
    target.url.starts_with("http://")
}

impl Check {
    /// The code with which the filter has to reject the request; none if it must not reject it.
    pub(crate) fn expected_code(&self) -> Option<&'static str> {
        match self {
            Self::UnknownPath => Some("not_found"),
            Self::WrongMethod => Some("method_not_allowed"),
            Self::MalformedBody => Some("malformed_json"),
            Self::IncompleteEvent | Self::ChunkedBody | Self::Trailers | Self::ForgedJudgement => Some("missing_field"),
            Self::OtherGet(_) | Self::OtherPost(_) | Self::TestEvent => None,
        }
    }

    /// Whether the request has a body.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self, Self::UnknownPath | Self::WrongMethod | Self::OtherGet(_))
    }

    /// Whether the filter has to reject the request for its body, and no trailers follow the body.
    pub(crate) fn has_plain_body(&self) -> bool {
        matches!(self, Self::MalformedBody | Self::IncompleteEvent | Self::ChunkedBody | Self::ForgedJudgement)
    }

    /// Whether the request goes to a path other than the webhook's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::OtherGet(_) | Self::OtherPost(_))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPath => f.write_str("GET of a path below the webhook"),
            Self::WrongMethod => f.write_str("GET of the webhook"),
            Self::MalformedBody => f.write_str("POST of a body that is not JSON"),
            Self::IncompleteEvent => f.write_str("POST of an incomplete event"),
            Self::ChunkedBody => f.write_str("POST of an incomplete event, chunked"),
            Self::Trailers => f.write_str("POST of an incomplete event, HTTP/2 with trailers"),
            Self::ForgedJudgement => f.write_str("POST of an incomplete event with a forged x-edge-judged header"),
            Self::OtherGet(path) => write!(f, "GET of {path}"),
            Self::OtherPost(path) => write!(f, "POST of an invalid event to {path}"),
            Self::TestEvent => f.write_str("POST of a valid test event"),
        }
    }
}
