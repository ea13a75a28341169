//! TLS for the backend's own connections: to Redis, the Partner API and the sink.

use std::sync::Once;

/// Installs the cryptography that TLS uses. Must be called before the first connection; further
/// calls do nothing.
pub fn prepare() {
    static ONCE: Once = Once::new();
    // An error means that another provider is installed already, which serves as well.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
