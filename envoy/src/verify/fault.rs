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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(error) => {
                write!(f, "cannot connect ({error}). Check the URL, and that Envoy listens there")
            }
            Self::Broken(error) => write!(
                f,
                "the connection failed before the answer was complete ({error}). If Envoy terminates TLS, the URL must \
                 begin with https://; otherwise see Envoy's log"
            ),
            Self::NoAnswer => f.write_str(
                "no answer within --timeout. Check that the URL leads to this Envoy, and look for errors in Envoy's log",
            ),
            Self::BodyHeldBack => f.write_str(
                "requests with a body are not answered, although requests without one are: Envoy withholds the body while \
                 the filter waits for it. Set `allow_on_headers_stop_iteration: true` in the filter's `config`, and check that \
                 its `allowed_capabilities` include `proxy_on_request_body`",
            ),
            Self::BodyUnseen => f.write_str(
                "requests with a body pass the filter unjudged, because Envoy does not show it the body. Add \
                 `proxy_on_request_body: {}` to the filter's `allowed_capabilities`",
            ),
            Self::FilterAbsent => f.write_str(
                "no answer carries the filter's header x-edge-build, so the filter does not run here. Put it before the \
                 router in this listener's `http_filters`; check that neither `disabled: true` nor the route's \
                 `typed_per_filter_config` switches it off; and look in Envoy's log for errors of the module, since Envoy \
                 serves without a failed filter if its `failure_policy` is FAIL_OPEN. If every answer is 404, check the \
                 host and the path of the URL as well",
            ),
            Self::ClientNotAllowed => f.write_str(
                "Envoy rejects this client's address. Run guardctl from an allowed network, or correct the network \
                 (`ip_allow_list`) or the number of trusted proxies",
            ),
            Self::WrongPath => f.write_str(
                "the filter answers 404 not_found at the webhook's URL. The policy's `path` differs from the URL's path, or \
                 the policy requires a path token (pass it with --token), or the token is not one of the policy's",
            ),
            Self::Unsigned => f.write_str(
                "the policy requires a signature that the filter can verify. Pass one of the policy's secrets with --secret, \
                 and check that the clocks of this machine and of Envoy agree",
            ),
            Self::Shadow => f.write_str(
                "the policy's `mode` is \"shadow\": the filter counts what it would reject, and lets it pass. Publish the \
                 policy with `mode = \"enforce\"`",
            ),
            Self::Unjudged { callback, status } => write!(
                f,
                "an invalid request passed the filter and was answered {status} from behind it. Add `{callback}: {{}}` to the \
                 filter's `allowed_capabilities`, and check that no route for POST switches the filter off"
            ),
            Self::ForgeryPassed(status) => write!(
                f,
                "a request with a forged x-edge-judged header was answered {status} instead of being rejected by the filter. \
                 Add `proxy_remove_header_map_value: {{}}` to the filter's `allowed_capabilities`"
            ),
            Self::WrongCode { expected, actual } => write!(
                f,
                "the filter answers `{actual}` instead of `{expected}`. Check the policy's settings, and that the module and \
                 guardctl have the same version"
            ),
            Self::EventRejected(code) => write!(
                f,
                "the filter rejects a valid event with `{code}`. Check the policy (docs/EDGE.md explains each code)"
            ),
            Self::OtherPathJudged => f.write_str(
                "the filter answers for a path that it must leave alone. Disable it on that route with \
                 `typed_per_filter_config`",
            ),
            Self::Unproven => f.write_str(
                "the backend does not know the filter's proof, so it stores nothing. Give the filter and the backend the \
                 same proof (`ingest.proof` of this project's backend)",
            ),
            Self::Unavailable => f.write_str(
                "the event could not be stored: Envoy cannot reach the backend, or the backend cannot store the event or does \
                 not know the filter's proof. Check the cluster's address, the backend's log, and the proof",
            ),
            Self::NoRoute => f.write_str(
                "Envoy has no route for the webhook: the filter accepted the event, and the router answered 404. Add a route \
                 to the backend for the policy's `path` and everything below it",
            ),
            Self::NoEventKey => f.write_str(
                "the backend acknowledged the event without the header x-edge-event-key, so the access log cannot name the \
                 event. Set the header in the backend's answer",
            ),
            Self::Unexpected(status) => {
                write!(f, "the answer {status} is neither the filter's nor the backend's. See Envoy's log")
            }
        }
    }
}
