//! Header names that the edge and the backend agree on, in lower case as HTTP/2 sends them.

/// What all of our own headers begin with. A request from outside never gets one of them past the edge.
pub const RESERVED_PREFIX: &str = "x-edge-";

/// On an accepted request: the [`EventKey`](crate::EventKey), for logs, traces and routing.
pub const EVENT_KEY: &str = "x-edge-event-key";

/// On an accepted request: the shared secret that shows that the filter judged it. The backend takes nothing without.
pub const PROOF: &str = "x-edge-proof";

/// On an accepted request and on a refusal: the filter build that decided.
pub const BUILD: &str = "x-edge-build";

/// On a refusal: the [`Code`](crate::Code), so that the access log can hold it.
pub const REFUSAL: &str = "x-edge-refusal";
