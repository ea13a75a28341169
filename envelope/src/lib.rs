//! The contract that the filter and the backend share: TruEnroll's events, their identity, and the
//! pure decision whether a request is a valid event for partners.
//!
//! This crate does no I/O and reads no clock: the caller of [`decide()`] provides the bytes and the
//! time. So the same golden vectors ([`vectors`]) run natively, in WebAssembly, through Envoy and
//! in the backend.
//!
//! Reading order: [`event`] and [`case_id`] name events and cases; [`timestamp`] and [`key`]
//! identify an event; [`json`] and [`envelope`] read a body; [`head`] reads the headers;
//! [`authenticity`] and [`signature`] verify the sender; [`decide`](mod@decide) makes the decision
//! under a [`policy`]; and [`problem`] explains a rejection to the sender. [`filter_settings`] is the
//! filter's configuration, read with [`settings`]. [`version`] is the version of everything that is
//! built from this workspace.

pub mod authenticity;
pub mod case_id;
pub mod decide;
pub mod envelope;
pub mod event;
pub mod filter_settings;
pub mod head;
pub mod headers;
mod json;
pub mod key;
pub mod policy;
pub mod problem;
pub mod settings;
pub mod signature;
pub mod timestamp;
#[cfg(feature = "vectors")]
pub mod vectors;
pub mod version;

pub use authenticity::Authenticity;
pub use case_id::CaseId;
pub use decide::decide;
pub use envelope::{Envelope, UnknownEvent, Verdict};
pub use event::{EventName, Feature, Stage};
pub use head::Head;
pub use key::EventKey;
pub use policy::{Mode, Policy, Requirement, Statement, UnknownEvents, UnknownFields};
pub use problem::{Code, Field, Rejection};
pub use signature::{InvalidSecret, Signing, SigningKey};
pub use timestamp::Timestamp;
