//! The contract that the edge filter and the backend share: TruEnroll's events, how they are identified, and the pure
//! decision whether a request is one.
//!
//! This crate does no I/O and reads no clock: whoever calls [`decide()`] hands it the bytes and the time. That is what lets
//! the same golden vectors ([`vectors`]) run natively, in WebAssembly, through Envoy and in the backend.
//!
//! Reading order: [`event`] and [`case_id`] name things, [`timestamp`] and [`key`] identify them, [`json`] and
//! [`envelope`] read a body, [`head`] reads the headers, [`authenticity`] and [`signature`] say who sent them, [`decide`](mod@decide) puts it together under a [`policy`], and
//! [`problem`] is what the sender is told.

pub mod authenticity;
pub mod case_id;
pub mod decide;
pub mod envelope;
pub mod event;
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

pub use authenticity::Authenticity;
pub use case_id::CaseId;
pub use decide::decide;
pub use envelope::{Envelope, UnknownEvent, Verdict};
pub use event::{EventName, Feature, Stage};
pub use head::Head;
pub use key::EventKey;
pub use policy::{Mode, Policy, Statement, UnknownEvents, UnknownFields};
pub use problem::{Code, Field, Rejection};
pub use signature::{Signing, SigningKey};
pub use timestamp::Timestamp;
