//! What the test harness and the benchmarks use of the backend's private modules. Not part of the
//! extension API: it changes without notice, and exists only with the cargo feature `test-support`.

/// The settings, to build a configuration in code.
pub mod config {
    pub use crate::config::*;
}

/// The stored events, to prepare and inspect what Redis holds.
pub mod inbox {
    pub use crate::inbox::*;
}

/// What became of events, and how a case is erased.
pub mod events {
    pub use crate::events::*;
}

/// The backend's start, to run it inside a test's process.
pub mod server {
    pub use crate::server::*;
}

/// What all HTTP clients share.
pub mod http_client {
    pub use crate::http_client::*;
}

/// TLS for outgoing connections.
pub mod tls {
    pub use crate::tls::*;
}
