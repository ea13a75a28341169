//! The edge filter: a thin shim between a proxy-wasm host (Envoy) and [`envelope::decide()`].
//!
//! [`settings`] is the configuration, [`request`] follows one request through its phases, and `host`, compiled into the
//! module alone (feature `host`), is the only place that names the host. Natively the crate is a library, so that whoever publishes
//! a filter can check its configuration with the filter's own code, and that can be tested without a host.

#[cfg(feature = "host")]
mod abi;

#[cfg(feature = "host")]
mod host;
pub mod pairs;
pub mod request;
pub mod settings;
