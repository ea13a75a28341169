//! The test harness: runs Redis, backends and Envoy with the filter on one machine, sends events
//! through them, breaks them, and checks the outcome. The end-to-end tests, `cargo up`, `cargo
//! sim`, `cargo chaos` and the benchmarks use it.
//!
//! What runs:
//! - [`tools`] finds or installs Envoy, Redis and a WebAssembly compiler, and builds the
//!   workspace's programs.
//! - [`process`] starts programs and stops them by their process ID.
//! - [`redis_server`] starts Redis servers.
//! - [`backend_settings`] has the usual settings of a backend.
//! - [`stack`] starts Redis, backends and Envoy together, on free ports.
//! - [`mounted_secret`] updates files as a kubelet does.
//!
//! Who talks to it:
//! - [`simulator`], a crate of its own, plays TruEnroll and the partner's application.
//! - [`load`] sends and answers requests for the benchmarks.
//! - [`metrics`] reads what the programs count.
//! - [`keys`] names the backend's keys in Redis.
//! - [`collector`] receives the backend's traces.
//! - [`contract`] records what filter and backend send each other.
//! - [`stored`] records what a backend stores in Redis.
//! - [`outcomes`] holds what the application receives against its description.
//!
//! The network around it, and its failures:
//! - [`balancer`] is a load balancer for several Envoys.
//! - [`dns`] is a DNS server that gives the answers a test asks for.
//! - [`proxy`] is a TCP proxy that breaks the connections through it.
//! - [`namespace`] is a host that can vanish from the network.
//! - [`chaos`] injects random faults into a whole stack and checks that every promise was kept.
//!
//! In containers:
//! - [`containers`] runs the Compose file for `cargo test-containers`.
//!
//! Beside this crate, `buffering` is a filter that only waits for the whole request, as a baseline
//! for `cargo bench-edge`, and `faulty` is a filter that fails, for the tests of publication.

pub mod backend_settings;
pub mod balancer;
pub mod browser;
pub mod chaos;
pub mod collector;
pub mod containers;
pub mod contract;
pub mod dns;
pub mod keys;
pub mod load;
pub mod metrics;
pub mod mounted_secret;
pub mod namespace;
pub mod outcomes;
pub mod process;
pub mod proxy;
pub mod records;
pub mod redis_server;
pub mod stack;
pub mod stored;
pub mod tools;
pub mod vector_request;

pub use simulator;
