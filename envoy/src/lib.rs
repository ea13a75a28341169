//! Envoy's side of the edge: its bootstrap, and the way a filter build gets into it and out again.
//!
//! [`cli`] is the command line, [`policy_file`] the policy as it is written, and [`drain`] runs Envoy itself. [`bootstrap`] renders Envoy's configuration. [`ecds`] writes the one resource that Envoy watches, [`store`] keeps
//! builds and what was published before, [`edge`] asks a running Envoy what it serves, [`traffic`] judges a build by the traffic that it handles, [`rehearsal`] tries a build
//! in an Envoy of its own, and [`publish`] puts these together: rehearse, store, swap, verify, watch, and back again if the
//! new build does not report itself, no backend knows its proof, or traffic speaks against it.

pub mod bootstrap;
pub mod cli;
pub mod drain;
pub mod ecds;
pub mod edge;
pub mod policy_file;
pub mod publish;
pub mod rehearsal;
pub mod store;
pub mod traffic;
pub mod verify;
