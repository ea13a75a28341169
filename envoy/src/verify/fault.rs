//! What can be wrong with an edge, in words.

use std::fmt;

/// A misconfiguration that the answers reveal. Its `Display` says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing accepts connections at the URL.
    NoConnection(String),
    /// The connection failed before an answer came.
    Broken(String),
    /// No request is answered in time.
    NoAnswer,
    /// Requests without a body are answered and requests with one are not.
    BodyHeldBack,
    /// Requests with a body pass unjudged, because Envoy does not call the filter when the body
    /// arrives.
    BodyUnseen,
    /// No answer shows that the filter ran.
    FilterAbsent,
    /// Envoy rejects clients with this address.
    ClientNotAllowed,
    /// The filter does not know the webhook's path, or the token.
    WrongPath,
    /// The policy requires a signature that the request did not have.
    Unsigned,
    /// The policy is in shadow mode.
    Shadow,
    /// An invalid request passed the filter, because Envoy did not call this callback.
    Unjudged {
        /// The proxy-wasm callback that Envoy did not call.
        callback: &'static str,
        /// The status that came from behind the filter.
        status: u16,
    },
    /// A request with a forged judgement was not rejected by the filter.
    ForgeryPassed(u16),
    /// The filter rejected a request with a code other than the expected one.
    WrongCode {
        /// The code that a correctly configured edge answers.
        expected: &'static str,
        /// The code that was answered.
        actual: String,
    },
    /// The filter rejected the test event.
    EventRejected(String),
    /// The filter judges a path that it must leave alone.
    OtherPathJudged,
    /// The backend does not know the filter's proof.
    Unproven,
    /// Envoy cannot reach the backend, or the backend cannot store the event.
    Unavailable,
    /// Envoy has no route for the webhook.
    NoRoute,
    /// The backend acknowledged the test event without naming its event key.
    NoEventKey,
    /// An answer with a status that fits none of the above.
    Unexpected(u16),
}

impl Fault {
    /// What happened.
    fn symptom(&self) -> String {
        match self {
            Self::NoConnection(error) => format!("cannot connect ({error})"),
            Self::Broken(error) => format!("the connection failed before the answer was complete ({error})"),
            Self::NoAnswer => "no answer within --timeout".to_owned(),
            Self::BodyHeldBack => "requests with a body are not answered, although requests without one are: Envoy \
                                   withholds the body while the filter waits for it"
                .to_owned(),
            Self::BodyUnseen => {
                "requests with a body pass the filter unjudged, because Envoy does not show it the body".to_owned()
            }
            Self::FilterAbsent => {
                "no answer carries the filter's header x-edge-build, so the filter does not run here".to_owned()
            }
            Self::ClientNotAllowed => "Envoy rejects this client's address".to_owned(),
            Self::WrongPath => "the filter answers 404 not_found at the webhook's URL".to_owned(),
            Self::Unsigned => "the policy requires a signature that the filter can verify".to_owned(),
            Self::Shadow => "the policy's `mode` is \"shadow\": the filter counts what it would reject, but lets it \
                             pass"
                .to_owned(),
            Self::Unjudged { status, .. } => {
                format!("an invalid request passed the filter, and was answered {status} from behind it")
            }
            Self::ForgeryPassed(status) => format!(
                "a request with a forged x-edge-judged header was answered {status}, although the filter had to reject it"
            ),
            Self::WrongCode { expected, actual } => format!("the filter answers `{actual}` instead of `{expected}`"),
            Self::EventRejected(code) => format!("the filter rejects a valid event with `{code}`"),
            Self::OtherPathJudged => "the filter answers for a path that it must leave alone".to_owned(),
            Self::Unproven => "the backend does not know the filter's proof, so it stores nothing".to_owned(),
            Self::Unavailable => {
                "the event could not be stored: Envoy cannot reach the backend, or the backend cannot \
                                  store the event or does not know the filter's proof"
                    .to_owned()
            }
            Self::NoRoute => "the filter accepted the event, but Envoy has no route for the webhook".to_owned(),
            Self::NoEventKey => {
                "the backend acknowledged the event without the header x-edge-event-key, so the access \
                                 log cannot name the event"
                    .to_owned()
            }
            Self::Unexpected(status) => format!("the answer {status} is neither the filter's nor the backend's"),
        }
    }

    /// What to do about it.
    fn remedy(&self) -> String {
        let remedy = match self {
            Self::NoConnection(_) => "Check the URL, and that Envoy listens there",
            Self::Broken(_) => "If Envoy terminates TLS, the URL must begin with https://. Otherwise see Envoy's log",
            Self::NoAnswer => "Check that the URL leads to this Envoy, and look for errors in Envoy's log",
            Self::BodyHeldBack => "Set `allow_on_headers_stop_iteration: true` in the filter's `config`",
            Self::BodyUnseen => "Add `proxy_on_request_body: {}` to the filter's `allowed_capabilities`",
            Self::FilterAbsent => {
                "Put it before the router in this listener's `http_filters`. Check that neither `disabled: true` nor the \
                 route's `typed_per_filter_config` disables it. Look in Envoy's log for errors of the module: with \
                 `failure_policy: FAIL_OPEN`, Envoy serves without a crashed filter. If every answer is 404, also check \
                 the host and the path of the URL"
            }
            Self::ClientNotAllowed => {
                "Run guardctl from an allowed network, or correct the network (`ip_allow_list`) or the number of trusted \
                 proxies"
            }
            Self::WrongPath => {
                "Compare the policy's `path` with the URL. If the policy requires a path token, pass one of its tokens \
                 with --token"
            }
            Self::Unsigned => {
                "Pass one of the policy's secrets with --secret, and compare the clocks of this machine and of Envoy"
            }
            Self::Shadow => "Publish the policy with `mode = \"enforce\"`",
            Self::Unjudged { callback, .. } => {
                return format!(
                    "Add `{callback}: {{}}` to the filter's `allowed_capabilities`, and check that no route for this \
                     method disables the filter"
                );
            }
            Self::ForgeryPassed(_) => "Add `proxy_remove_header_map_value: {}` to the filter's `allowed_capabilities`",
            Self::WrongCode { .. } => {
                "Check the policy's settings, and that the module and guardctl have the same version"
            }
            Self::EventRejected(_) => "Check the policy; docs/EDGE.md explains each code",
            Self::OtherPathJudged => "Disable it on that route with `typed_per_filter_config`",
            Self::Unproven => {
                "Give the filter and the backend the same proof (`ingest.proof` of this project's backend)"
            }
            Self::Unavailable => "Check the cluster's address, the backend's log, and the proof",
            Self::NoRoute => "Add a route to the backend for the policy's `path` and everything below it",
            Self::NoEventKey => "Set the header in the backend's answer",
            Self::Unexpected(_) => "See Envoy's log",
        };
        remedy.to_owned()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.symptom(), self.remedy())
    }
}
