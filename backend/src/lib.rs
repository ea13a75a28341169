//! The backend: stores each event together with its idempotency key before it says yes, handles it once and in order, and
//! hands the finished result to the partner's application.
//!
//! An event's way through the modules: [`ingest`] takes it from the edge if [`proofs`] knows its proof, [`inbox`] stores it, [`worker`] picks it up,
//! [`handler`] decides what to do, [`partner_api`] fetches the result, [`sink`] delivers it. [`reconciler`] finds those that
//! never came. [`config`] is read once at start, [`tls`] is prepared for all who call, [`telemetry`] names the metrics, [`admin`] serves them, and [`server`] starts and stops it all, as [`cli`] says.

pub mod admin;
pub mod cli;
pub mod config;
pub mod document;
pub mod event;
pub mod handler;
pub mod http_client;
pub mod inbox;
pub mod ingest;
#[cfg(feature = "mutations")]
pub mod mutation;
pub mod partner_api;
pub mod problem;
pub mod proofs;
pub mod reconciler;
pub mod server;
pub mod sink;
pub mod telemetry;
pub mod tls;
pub mod worker;
