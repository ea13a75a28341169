//! The filter: a thin layer between a proxy-wasm host (Envoy) and [`envelope::decide()`].
//!
//! [`request`] follows one request through its phases, and [`pairs`] reads a header map. `host` and
//! `abi` call the host; they are compiled only into the module (feature `host`). Natively the crate
//! is a library, so that tests need no host. Its configuration, `envelope::filter_settings`, is in
//! the contract crate, so that guardctl can check it without depending on the filter.

#[cfg(feature = "host")]
mod abi;

#[cfg(feature = "host")]
mod host;
pub mod pairs;
pub mod request;
