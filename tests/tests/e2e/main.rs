//! The end-to-end tests: real Envoy, real Redis, real processes, real failures.
//!
//! The path of an event:
//! - [`edge`]: the filter's verdicts, for every golden vector and transport ([`transport`]).
//! - [`path`]: events reach the application once, in order, and with the right outcome.
//! - [`outcomes`]: what the application receives is as described.
//! - [`redis_sink`]: outcomes in a stream of the application's.
//! - [`large`]: large results.
//! - [`ingest`]: the ingest is independent of handlers.
//! - [`forged`]: events that are not true.
//! - [`giving_up`]: how long an event is retried.
//! - [`revived`]: redeliveries of dead letters.
//! - [`reconciler`]: events that never arrive are backfilled.
//! - [`replicas`]: several backends, lanes and pauses.
//!
//! Failures:
//! - [`failure`]: killed backends, a killed Redis, lost leases.
//! - [`durability`]: what must be true before an event counts as stored.
//! - [`fitness`]: Redis servers that are not proven durable.
//! - [`network`]: broken connections between the programs.
//! - [`dns`]: the backend's name stops resolving.
//! - [`clock`]: clocks that jump.
//! - [`chaos`]: random faults, and what the checker finds without a protection.
//!
//! Operations:
//! - [`console`]: the web pages for operators.
//! - [`jobs`]: what goes on after a page was answered.
//! - [`browser`]: the same in a real browser.
//! - [`openapi`]: holds the console's answers against their description.
//! - [`start`]: errors at startup.
//! - [`doctor`]: `backend doctor`, and what it says about faults.
//! - [`metrics`]: what Prometheus reads.
//! - [`dead_letter_counts`]: the number of dead letters with each code.
//! - [`monitoring`]: the alerts and dashboards.
//! - [`versions`]: the programs, the filter and the changelog agree on the version.
//! - [`restart`]: restarts of the only backend and of Redis.
//! - [`planned`]: policy changes and restarts of one of two backends.
//! - [`drain`]: restarts of Envoy.
//! - [`traces`]: what a collector receives, and a collector that fails.
//! - [`tracer`]: traces that begin in Envoy.
//! - [`events`]: what the commands say about events.
//! - [`tail`]: `backend tail`.
//! - [`records`]: records of the history that share an entry.
//! - [`format`]: stores that a newer backend has changed.
//! - [`upgrade`]: a store that the previous version has left.
//! - [`restore`]: the restore of a backup.
//! - [`swap`]: new builds of the filter under load, and rehearsals.
//! - [`publish`]: what makes a publication succeed, fail or roll back.
//! - [`mounted`]: builds that Kubernetes mounts as a Secret, under load.
//! - [`skew`]: filter and backend of neighbouring versions.
//! - [`manifests`]: the manifests for Kubernetes.
//! - [`rotation`]: a new secret for outcomes and a new API key, under load.
//! - [`token`]: the introduction and rotation of tokens and signatures.
//! - [`bootstrap`]: the options of Envoy's bootstrap.
//! - [`own_envoy`]: the filter in an Envoy that somebody already runs, as `docs/EDGE.md` shows it.
//!
//! Strangers:
//! - [`hostile`]: malformed HTTP and garbage.
//! - [`connections`]: floods of requests and connections.
//! - [`clients`]: the allow list and trusted proxies.
//! - [`tls`]: HTTPS, client certificates, and TLS to Redis.
//! - [`logs`]: what is written to the access log.
//!
//! The harness itself:
//! - [`up`]: `cargo up`.
//! - [`send`]: `cargo sim send`.
//! - [`wasm`]: the filter's own tests as WebAssembly.
//! - [`fixture`]: what the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with `--nocapture`")]

mod bootstrap;
mod browser;
mod chaos;
mod clients;
mod clock;
mod compose;
mod connections;
mod console;
mod dead_letter_counts;
mod dead_letters;
mod dns;
mod doctor;
mod drain;
mod durability;
mod edge;
mod events;
mod failure;
mod fitness;
mod fixture;
mod forged;
mod format;
mod giving_up;
mod history;
mod hostile;
mod ingest;
mod jobs;
mod large;
mod logs;
mod manifests;
mod metrics;
mod monitoring;
mod mounted;
mod network;
mod openapi;
mod outcomes;
mod own_envoy;
mod path;
mod planned;
mod publish;
mod reconciler;
mod records;
mod redis_sink;
mod replicas;
mod restart;
mod restore;
mod revived;
mod rotation;
mod send;
mod skew;
mod start;
mod swap;
mod tail;
mod tls;
mod token;
mod tracer;
mod traces;
mod transport;
mod up;
mod upgrade;
mod versions;
mod wasm;
