//! Runs the Compose file in real containers, for `cargo test-containers`.
//!
//! - [`session`] has everything that one run needs and creates, and removes it at the end.
//! - [`engine`] finds a Docker engine, or starts one.
//! - [`base_images`] pulls the images that ours are built on, or makes them locally.
//! - [`docker`] runs the commands `docker` and `docker compose`.
//! - [`project`] is one Compose project with its own copy of the repository.
//! - [`container`] is one of its containers.
//! - [`hardening`] checks the rights and limits of containers.
//! - [`network`] breaks the network of a container.
//! - [`outside`] plays TruEnroll and the partner's application for a project, and judges what
//!   senders notice.
//! - [`production`] is a project that runs as in production, with that outside world.
//! - [`pages`] extracts the commands that the documents show.
//! - [`steps`] prints the progress.

pub mod base_images;
pub mod container;
pub mod docker;
pub mod engine;
pub mod hardening;
pub mod network;
pub mod outside;
pub mod pages;
pub mod production;
pub mod project;
pub mod session;
pub mod steps;

mod command;
mod context;
mod gateway;

pub use container::Container;
pub use docker::Docker;
pub use network::Network;
pub use outside::Outside;
pub use production::Production;
pub use project::Project;
pub use session::Session;
pub use steps::Steps;
