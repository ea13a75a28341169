//! Recorded stores: what Redis holds when a backend of some version is killed amid its work, for
//! the tests of later versions.
//!
//! - [`Scenario`] is what happened: the cases, and what has become of their events.
//! - [`record`] plays the scenario with the backend of any version.
//! - [`append_only_file`] prepares a recording so that Redis can start on it at any later time.

mod append_only_file;
mod record;
mod scenario;

pub use append_only_file::at;
pub use record::record;
pub use scenario::Scenario;
