//! The filter: a thin layer between a proxy-wasm host (Envoy) and [`envelope::decide()`].
//!
//! [`settings`] is the configuration, [`request`] follows one request through its phases, and
//! [`pairs`] reads a header map. `host` and `abi` call the host; they are compiled only into the
//! module (feature `host`). Natively the crate is a library, so that guardctl can check a
//! configuration with the filter's own code, and tests need no host.

#[cfg(feature = "host")]
mod abi;

#[cfg(feature = "host")]
mod host;
pub mod pairs;
pub mod request;
pub mod settings;
