//! The backend: stores each event with its seen key before it acknowledges it, handles it once and
//! in order, and delivers the outcome to the partner's application.
//!
//! The binary `backend` uses the standard handlers. To handle an event differently, build your own
//! binary around [`main_with`] and replace individual handlers. The backend still provides storage,
//! order, retries, dead letters, the command line and the settings. `backend/examples/own-handler`
//! is a complete package.
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc};
//!
//! use async_trait::async_trait;
//! use backend::{
//!     event::Event,
//!     handler::{FeatureHandler, HandlerError, Outcome},
//! };
//! use envelope::{EventName, Feature, Stage};
//!
//! /// Tells the application nothing about completed classifications.
//! struct Ignore;
//!
//! #[async_trait]
//! impl FeatureHandler for Ignore {
//!     async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
//!         Ok(Outcome::Nothing)
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     let classified = EventName { feature: Feature::Classification, stage: Stage::Completed };
//!     backend::main_with(|handlers, _partner_api| handlers.with(classified, Arc::new(Ignore)))
//! }
//! ```
//!
//! # How an event passes through the modules
//! `ingest` takes it from the edge if `proofs` recognizes the filter's proof, `inbox` stores it,
//! `worker` picks it up, [`handler`] decides what to do, [`partner_api`] fetches the result, and
//! `sink` delivers it. `reconciler` backfills events that never arrived. `config` is read at start,
//! and again by `reload`, `telemetry` defines the metrics, `admin` serves them, `traces` records
//! spans, `server` starts and stops everything, `events` finds out what became of an event, `doctor`
//! checks an installation, `console` shows it all in a browser, and `cli` is the command line.
#![allow(unreachable_pub, reason = "in a private module, `pub` means visible to the crate and to `test_support`")]

pub mod document;
pub mod event;
pub mod handler;
pub mod partner_api;
#[cfg(feature = "test-support")]
pub mod test_support;

mod admin;
mod cli;
mod codes;
mod config;
mod console;
mod doctor;
mod events;
mod http_client;
mod inbox;
mod ingest;
mod mutation;
mod proofs;
mod reconciler;
mod reload;
mod server;
mod sink;
mod telemetry;
mod time;
mod tls;
mod traces;
mod units;
mod unreadable;
mod worker;

pub use cli::{main, main_with};
