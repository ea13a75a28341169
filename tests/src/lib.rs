//! Everything that it takes to run the edge on one machine, for `cargo up` and for the end-to-end tests.
//!
//! [`tools`] finds or fetches Envoy, Redis and a WebAssembly compiler. [`process`] starts programs and stops them by
//! their pid. [`stack`] puts Redis, backend and Envoy together on free ports. [`simulator`] plays TruEnroll and the
//! partner's application, [`balancer`] a load balancer. [`proxy`] plays a network that fails, [`namespace`] a host that disappears, and [`dns`] is a DNS
//! server that answers as it is told. [`chaos`] breaks all of it and checks what came of it. [`metrics`] reads what the
//! programs count, [`load`] makes work for the benchmarks.

pub mod balancer;
pub mod chaos;
pub mod dns;
pub mod load;
pub mod metrics;
pub mod namespace;
pub mod process;
pub mod proxy;
pub mod simulator;
pub mod stack;
pub mod tools;
