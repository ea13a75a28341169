//! TLS towards all that we call.

use std::sync::Once;

/// Makes sure that TLS has its cryptography. To be called before the first connection.
pub fn prepare() {
    static ONCE: Once = Once::new();
    // An error says that somebody has installed one before, which is as good.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
