//! Adds outcomes to the stream over one connection: those that arrive at the same time together, so
//! that they wait for the disk or the replicas together.

use std::sync::Arc;

use redis::Cmd;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{StreamError, target::Target};

/// Asks to add an entry.
pub(super) struct Request {
    pub(super) entry: Cmd,
    /// How long somebody waits for the result.
    pub(super) deadline: Instant,
    pub(super) result: oneshot::Sender<Result<(), StreamError>>,
}

/// The maximum number of entries that are added together, and of those that wait for it.
pub(super) const MAX_BATCH: usize = 256;

/// Adds entries until nobody can ask any more.
pub(super) async fn run(target: Arc<Target>, mut received: mpsc::Receiver<Request>) {
    let mut connection = None;
    let mut batch = Vec::new();
    while received.recv_many(&mut batch, MAX_BATCH).await > 0 {
        // Half of the time is left, so that nobody gives up while the server confirms an outcome.
        let latest = Instant::now() + target.timeout / 2;
        // For a request that nobody waits for any more, or not for long, a retry adds the entry.
        let in_time = |request: &Request| !request.result.is_closed() && request.deadline >= latest;
        let (batch, late): (Vec<_>, Vec<_>) = batch.drain(..).partition(in_time);
        for request in late {
            _ = request.result.send(Err(StreamError::Timeout));
        }
        let Some(deadline) = batch.iter().map(|request| request.deadline).min() else { continue };
        let (entries, asked): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.entry, request.result)).unzip();
        let add = async {
            let connection = match &mut connection {
                Some(connection) => connection,
                none => none.insert(target.connect_proven().await?),
            };
            target.add(connection, entries, deadline - Instant::now()).await
        };
        let added = timeout_at(deadline, add).await.unwrap_or(Err(StreamError::Timeout));
        let results = added.unwrap_or_else(|error| vec![Err(error); asked.len()]);
        if results.iter().any(|result| !matches!(result, Ok(()) | Err(StreamError::Full))) {
            // There may be another server at the address, or this one has changed.
            connection = None;
        }
        for (asked, result) in asked.into_iter().zip(results) {
            // The caller may have given up.
            _ = asked.send(result);
        }
    }
}
