//! Everything that it takes to run the edge on one machine, for `cargo up` and for the end-to-end tests.
//!
//! [`tools`] finds or fetches Envoy, Redis and a WebAssembly compiler. [`process`] starts programs and stops them by
//! their pid. [`stack`] puts Redis, backend and Envoy together on free ports. [`simulator`] plays TruEnroll and the
//! partner's application. [`chaos`] breaks all of it and checks what came of it. [`metrics`] reads what the programs count,
//! [`load`] makes work for the benchmarks, and [`dns`] is a DNS server that answers as it is told.

pub mod chaos;
pub mod dns;
pub mod load;
pub mod metrics;
pub mod process;
pub mod simulator;
pub mod stack;
pub mod tools;
