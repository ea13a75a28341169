//! Waits until a stored event is durable: on the server's disk, or on replicas.
//!
//! `WAIT` and `WAITAOF` block their connection, so a confirmer has a connection of its own. All
//! events that were stored since the last call are confirmed together by the next one.

use std::{io, sync::OnceLock, time::Duration};

use redis::{
    Client, Pipeline, RedisError, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{inbox::InboxError, time::duration_millis};

/// The confirmation that `redis.durability` asks for.
#[derive(Debug, Clone, Copy)]
pub(in crate::inbox) struct Confirmation {
    pub(in crate::inbox) needed: Needed,
    /// The time to live of the seen key. Each confirmation starts it again.
    pub(in crate::inbox) retention: Duration,
}

/// Where an event must be before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) enum Needed {
    /// On the server's disk (`WAITAOF`).
    Disk,
    /// On at least this many replicas (`WAIT`).
    Replicas(u8),
}

/// Confirms the events that were stored on one server.
pub(in crate::inbox) struct Confirmer {
    client: Client,
    settings: ConnectionManagerConfig,
    confirmation: Confirmation,
    requests: OnceLock<mpsc::Sender<Request>>,
}

/// Asks whether the event with this seen key is durable.
struct Request {
    seen: String,
    deadline: Instant,
    result: oneshot::Sender<Result<(), InboxError>>,
}

/// The answer of Redis to a batch of requests.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// For each request, whether its seen key still exists.
    seen_keys_exist: Vec<bool>,
    /// How many disks (0 or 1) or replicas have acknowledged everything that was stored.
    acknowledged: u8,
}

/// The maximum number of requests that wait for the next batch.
const MAX_WAITING: usize = 4_096;

/// How long an answer may take beyond the time for which Redis blocks. After that, the connection
/// is assumed to be dead.
const GRACE: Duration = Duration::from_secs(1);
/// The share of the remaining time for which Redis blocks. The rest leaves time for its answer,
/// which says how many disks or replicas have acknowledged the event.
const BLOCKING_SHARE: f64 = 0.9;

impl Confirmer {
    /// Returns a confirmer that connects when it is first used, in the runtime of its first caller.
    pub(super) fn new(client: Client, settings: ConnectionManagerConfig, confirmation: Confirmation) -> Self {
        Self { client, settings, confirmation, requests: OnceLock::new() }
    }

    /// Waits until the event with the key `seen`, which was stored before this call, is durable,
    /// but not beyond `deadline`.
    ///
    /// # Errors
    /// Returns an error if the event is not known to be durable.
    pub(super) async fn confirm(&self, seen: String, deadline: Instant) -> Result<(), InboxError> {
        let (result, confirmed) = oneshot::channel();
        let requests = self.requests.get_or_init(|| {
            let (requests, received) = mpsc::channel(MAX_WAITING);
            tokio::spawn(run(self.client.clone(), self.settings.clone(), received, self.confirmation));
            requests
        });
        let request = Request { seen, deadline, result };
        requests.send(request).await.map_err(|_| InboxError::ConfirmerStopped)?;
        confirmed.await.map_err(|_| InboxError::ConfirmerStopped)?
    }
}

async fn run(
    client: Client,
    settings: ConnectionManagerConfig,
    mut received: mpsc::Receiver<Request>,
    confirmation: Confirmation,
) {
    let connect = || ConnectionManager::new_lazy_with_config(client.clone(), settings.clone());
    let Ok(mut connection) = connect() else { return };
    let mut batch = Vec::new();
    while received.recv_many(&mut batch, MAX_WAITING).await > 0 {
        let block = blocking_time(batch.iter().map(|request| request.deadline), Instant::now());
        let commands = confirmation.commands(&batch, block);
        let answer = match timeout(block + GRACE, commands.query_async(&mut connection)).await {
            Ok(values) => values.and_then(Answer::read),
            Err(_) => {
                // The kernel does not always notice that nobody is at the other end any more.
                if let Ok(new) = connect() {
                    connection = new;
                }
                Err(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)))
            }
        };
        for (place, request) in batch.drain(..).enumerate() {
            let result = match &answer {
                Ok(answer) => answer.result(place, confirmation.needed),
                Err(error) => Err(error.clone().into()),
            };
            // The caller may have given up.
            _ = request.result.send(result);
        }
    }
}

/// Returns for how long Redis blocks for a batch: until shortly before the latest deadline. At
/// least a millisecond, since to Redis 0 means forever.
fn blocking_time(deadlines: impl Iterator<Item = Instant>, now: Instant) -> Duration {
    let latest = deadlines.max().unwrap_or(now);
    let block = latest.saturating_duration_since(now).mul_f64(BLOCKING_SHARE);
    block.max(Duration::from_millis(1))
}

impl Confirmation {
    fn commands(self, batch: &[Request], block: Duration) -> Pipeline {
        let mut commands = redis::pipe();
        for request in batch {
            // `WAIT` and `WAITAOF` cover the writes of their own connection only, but the event was
            // written over another one. The disk and the replicas receive all writes in order, so a
            // later write over this connection covers the event as well.
            commands.cmd("PEXPIRE").arg(&request.seen).arg(duration_millis(self.retention));
        }
        match self.needed {
            Needed::Disk => commands.cmd("WAITAOF").arg(1).arg(0).arg(duration_millis(block)),
            Needed::Replicas(replicas) => commands.cmd("WAIT").arg(replicas).arg(duration_millis(block)),
        };
        commands
    }
}

impl Answer {
    /// Reads the values: one for each request, then the answer of `WAIT` (the number of replicas)
    /// or of `WAITAOF` (the numbers of disks and of replicas).
    fn read(mut values: Vec<Value>) -> Result<Self, RedisError> {
        let acknowledged = match values.pop() {
            Some(Value::Array(numbers)) => numbers.into_iter().next(),
            other => other,
        };
        let acknowledged = redis::from_redis_value(acknowledged.unwrap_or(Value::Int(0)))?;
        let seen_keys_exist = values.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
        Ok(Self { seen_keys_exist, acknowledged })
    }

    /// Returns what the answer means for the request at this place of the batch.
    fn result(&self, place: usize, needed: Needed) -> Result<(), InboxError> {
        let exists = self.seen_keys_exist.get(place).copied().unwrap_or_default();
        let acknowledged = self.acknowledged;
        match needed {
            _ if !exists => Err(InboxError::NoLongerStored),
            Needed::Disk if acknowledged == 0 => Err(InboxError::NotOnDisk),
            Needed::Replicas(needed) if acknowledged < needed => {
                Err(InboxError::TooFewReplicas { needed, acknowledged })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn the_last_value_counts_disks_or_replicas() {
        let int = Value::Int;
        for (values, seen_keys_exist, acknowledged) in [
            (vec![int(1), int(0), int(2)], vec![true, false], 2),
            (vec![int(1), Value::Array(vec![int(1), int(7)])], vec![true], 1),
            (vec![int(1), Value::Array(vec![])], vec![true], 0),
            (vec![int(3)], vec![], 3),
            (vec![], vec![], 0),
        ] {
            assert_eq!(Answer::read(values).unwrap(), Answer { seen_keys_exist, acknowledged });
        }
        assert!(Answer::read(vec![Value::Nil, Value::SimpleString("OK".to_owned())]).is_err());
    }

    #[test]
    fn an_event_is_confirmed_if_it_exists_and_enough_copies_are_acknowledged() {
        let replicas = Needed::Replicas(2);
        for (exists, acknowledged, needed, reason) in [
            (true, 1, Needed::Disk, None),
            (true, 0, Needed::Disk, Some("disk")),
            (false, 1, Needed::Disk, Some("server")),
            (true, 3, replicas, None),
            (true, 2, replicas, None),
            (true, 1, replicas, Some("replicas")),
            (true, 0, replicas, Some("replicas")),
            (false, 0, replicas, Some("server")),
        ] {
            let answer = Answer { seen_keys_exist: vec![exists], acknowledged };
            let result = answer.result(0, needed).map_err(|error| error.reason());
            assert_eq!(result.err(), reason, "{exists} {acknowledged} {needed:?}");
        }
        let empty = Answer { seen_keys_exist: vec![], acknowledged: 9 };
        assert!(matches!(empty.result(0, Needed::Disk), Err(InboxError::NoLongerStored)), "no answer for the event");
    }

    proptest! {
        #[test]
        fn redis_blocks_until_shortly_before_the_latest_deadline(millis in vec(0_u64..100_000, 0..20), late in 0_u64..200_000) {
            let start = Instant::now();
            let now = start + Duration::from_millis(late);
            let deadlines = millis.iter().map(|&millis| start + Duration::from_millis(millis));
            let block = blocking_time(deadlines, now);
            let left = Duration::from_millis(millis.iter().max().unwrap_or(&0).saturating_sub(late));
            prop_assert!(block >= Duration::from_millis(1) && block <= left.max(Duration::from_millis(1)));
            if left > Duration::from_millis(2) {
                prop_assert_eq!(block, left.mul_f64(BLOCKING_SHARE));
            }
        }
    }
}
