//! The operator's side of the edge: Envoy's bootstrap, and `guardctl`, which guards what Envoy
//! serves.
//!
//! - [`cli`] is the command line of `guardctl`.
//! - [`bootstrap`] renders Envoy's bootstrap, and [`policy_file`] reads the policy.
//! - [`build`] is one version of the filter.
//! - [`publish`] publishes a build: it rehearses the build in a temporary Envoy ([`rehearsal`]),
//!   stores it in the shared directory ([`store`]) as the resource that Envoy watches ([`ecds`]),
//!   asks the running Envoy whether it serves the build ([`edge`]), watches traffic ([`traffic`]),
//!   and rolls back if anything fails. [`module`] reads the version that a module states.
//! - [`render`] renders a build for an Envoy in Kubernetes.
//! - [`verify`] finds misconfigurations of any running edge from outside.
//! - [`drain`] runs Envoy, and drains it before it stops.
//! - [`unreadable`] explains why a file cannot be read.

pub mod bootstrap;
pub mod build;
pub mod cli;
pub mod drain;
pub mod ecds;
pub mod edge;
pub mod module;
pub mod policy_file;
pub mod publish;
pub mod rehearsal;
pub mod render;
pub mod store;
pub mod traffic;
pub mod unreadable;
pub mod verify;
