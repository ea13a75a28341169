//! What is checked before events are stored over a connection, and again every 15 seconds.

use redis::aio::ConnectionLike;

use super::{
    fitness::Check,
    formats::Formats,
    requirements::{Proof, Requirements},
};

/// The checks of one server.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    /// Missing if `redis.check_server` is false.
    pub(super) requirements: Option<Requirements>,
    pub(super) formats: Formats,
}

impl Checks {
    /// Checks the server at the other end of `connection`.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`](crate::inbox::InboxError::Unfit) if the server is proved not
    /// to be fit for this backend. Every other error proves nothing.
    pub(super) async fn run(&self, address: &str, connection: &mut impl ConnectionLike) -> Check {
        let proof = match &self.requirements {
            Some(requirements) => requirements.check(address, connection).await?,
            None => Proof { syncs_always: false },
        };
        // Last, because a backend's check may write, which only a server that meets the requirements should do.
        self.formats.check(address, connection).await?;
        Ok(proof)
    }
}
