//! What one side (`Side`: the ingest or the rest of the backend) needs to store events on one
//! server: a proven connection and a confirmer.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Script};
use tokio::time::Instant;

use super::{
    confirm::Confirmer,
    proven::{Connector, ProvenConnection},
};
use crate::inbox::{InboxError, scripts};

/// The connection and the confirmer of one side for one server.
pub(in crate::inbox) struct Link {
    connector: Connector,
    /// Missing if `redis.durability` asks for no confirmation.
    confirmer: Option<Confirmer>,
}

/// The answer of a script that stores an event, and the connection it came over.
pub(in crate::inbox) struct Stored {
    pub(in crate::inbox) answer: i64,
    pub(in crate::inbox) connection: Arc<ProvenConnection>,
}

/// Stands for a script that runs over a connection. If the caller gives up after a long wait, this
/// is dropped and discards the connection, so that the next caller does not wait for it too.
struct Unanswered<'a> {
    connector: &'a Connector,
    connection: Option<Arc<ProvenConnection>>,
    since: Instant,
}

/// A script that is given up sooner says nothing about its connection: the sender may have gone
/// away.
const MIN_WAIT_TO_DISCARD: Duration = Duration::from_millis(200);

impl Link {
    pub(super) fn new(connector: Connector, confirmer: Option<Confirmer>) -> Self {
        Self { connector, confirmer }
    }

    /// Returns the connection over which events are stored, if there is one now.
    pub(super) fn ready(&self) -> Option<Arc<ProvenConnection>> {
        self.connector.ready()
    }

    /// Runs a script that stores an event and may run twice: if the connection turns out to be
    /// lost, runs it once more over another one.
    ///
    /// # Errors
    /// If the server cannot be reached, is not proved to meet the requirements, or answers with an
    /// error.
    pub(in crate::inbox) async fn store(&self, script: &Script, call: &Cmd) -> Result<Stored, InboxError> {
        let mut is_repeated = false;
        loop {
            let connection = self.connector.connection().await?;
            let mut unanswered = Unanswered {
                connector: &self.connector,
                connection: Some(Arc::clone(&connection)),
                since: Instant::now(),
            };
            let answer = scripts::run(script, call, &mut connection.connection.clone()).await;
            unanswered.connection = None;
            match answer {
                Ok(answer) => return Ok(Stored { answer, connection }),
                Err(error) => {
                    let is_lost = error.is_unrecoverable_error();
                    if is_lost {
                        self.connector.discard(&connection);
                    }
                    if !is_lost || is_repeated {
                        return Err(error.into());
                    }
                }
            }
            is_repeated = true;
        }
    }

    /// Waits until the event with the key `seen`, which was stored over `connection`, is durable,
    /// but not beyond `deadline`.
    ///
    /// # Errors
    /// Returns an error if the event is not known to be durable.
    pub(in crate::inbox) async fn confirm(
        &self,
        connection: &ProvenConnection,
        seen: String,
        deadline: Instant,
    ) -> Result<(), InboxError> {
        match &self.confirmer {
            Some(confirmer) if !connection.syncs_always() => confirmer.confirm(seen, deadline).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() < MIN_WAIT_TO_DISCARD {
            return;
        }
        if let Some(connection) = self.connection.take() {
            self.connector.discard(&connection);
        }
    }
}
