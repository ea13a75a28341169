//! The edge filter: a thin shim between a proxy-wasm host (Envoy) and [`envelope::decide()`].
//!
//! [`settings`] is the configuration, [`guard`] follows one request through its phases, and `host`, compiled into the
//! module alone (feature `host`), is the only place that names the host. Natively the crate is a library, so that whoever publishes
//! a filter can check its configuration with the filter's own code, and the guard can be tested without a host.

#[cfg(feature = "host")]
mod abi;
pub mod guard;
#[cfg(feature = "host")]
mod host;
pub mod pairs;
pub mod settings;
