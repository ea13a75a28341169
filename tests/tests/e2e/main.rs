//! End to end: real Envoy, real Redis, real processes, killed for real.
//!
//! [`edge`] sends the golden vectors through Envoy, [`path`] follows events to the application, [`large`] those with large
//! results, [`reconciler`] loses some, [`replicas`] lets several backends share the work, [`failure`] breaks things on the
//! way, [`chaos`] breaks all of them at random, [`swap`] replaces the filter under load, [`tls`] asks for certificates,
//! [`planned`] does what operators do every day, [`durability`] takes away what keeps events, [`fitness`] has servers that are
//! not proven to keep them, [`restart`] restarts the only backend, [`revived`]
//! sends the events of dead letters again, [`giving_up`] shows how long an event is retried,
//! [`forged`] sends events that are not true, [`ingest`] has a handler block its thread, [`start`] starts things wrongly,
//! [`dns`] has the backend's name stop resolving,
//! [`connections`] has many requests and connections wait,
//! [`network`] breaks the connections between programs,
//! [`logs`] floods the access log,
//! [`bootstrap`] renders every combination of Envoy's options,
//! [`clients`] tells apart who connects,
//! [`clock`] lets the clocks of backends jump,
//! [`drain`] restarts Envoy, [`publish`] says what a publication believes, [`token`] changes how senders are recognized,
//! [`up`] runs `cargo up`, and [`wasm`] runs the filter's own tests as WebAssembly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with `--nocapture`")]

mod bootstrap;
mod chaos;
mod clients;
mod clock;
mod connections;
mod dns;
mod drain;
mod durability;
mod edge;
mod failure;
mod fitness;
mod fixture;
mod forged;
mod giving_up;
mod hostile;
mod ingest;
mod large;
mod logs;
mod network;
mod own_envoy;
mod path;
mod planned;
mod publish;
mod reconciler;
mod replicas;
mod restart;
mod revived;
mod start;
mod swap;
mod tls;
mod token;
mod transport;
mod up;
mod wasm;
