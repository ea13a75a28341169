//! The errors of the inbox.

use std::{error::Error, io, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::time::timeout;

/// Why a call of the inbox failed.
///
/// After any of these errors, it is unknown whether an event that was to be stored is stored
/// durably.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InboxError {
    /// Redis did not answer in time.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// Redis could not be reached, or answered with an error.
    #[error("Redis: {0}")]
    Redis(RedisError),
    /// The event is stored, but was not synced to the server's disk in time.
    #[error("the event is stored, but was not synced to the server's disk in time")]
    NotOnDisk,
    /// The event is stored, but too few replicas acknowledged it in time.
    #[error("the event is stored, but only {acknowledged} of the {needed} required replicas acknowledged it in time")]
    TooFewReplicas {
        /// How many replicas must acknowledge it.
        needed: u8,
        /// How many replicas acknowledged it.
        acknowledged: u8,
    },
    /// The event was stored, and is not there any more: the server has restarted or failed over.
    #[error("Redis has lost an event that it stored a moment ago: did it restart or fail over?")]
    NoLongerStored,
    /// The server has proved that this backend must not store events on it.
    #[error("{0}")]
    Unfit(Unfit),
    /// The sentinels name this server, which is not the primary. During a failover, they may name a
    /// server before it has become the primary.
    #[error("Redis at {0}, which the sentinels name as the primary, is not the primary")]
    NotPrimary(String),
    /// A server in `redis.url` cannot be reached, or is still loading its data.
    #[error("{0}")]
    NotReady(String),
    /// The servers in `redis.url` cannot be used or do not form the topology in `redis.topology`, or
    /// it is unknown which server holds a partition.
    #[error("{0}")]
    Topology(String),
    /// Redis holds events that were stored with another number of partitions.
    #[error(
        "`redis.partitions` is {configured}, but Redis holds events in {stored} partitions: set it to {stored}, or use \
         another `redis.prefix`"
    )]
    Partitions {
        /// The number of partitions in the configuration.
        configured: u32,
        /// The number of partitions that Redis holds, as it is stored.
        stored: String,
    },
    /// A script gave an answer that this version of the backend does not know.
    #[error("a script in Redis gave the unknown answer {0}")]
    UnknownAnswer(i64),
    /// The task that waits for the disk or for replicas has stopped.
    #[error("the task that waits for replicas or the disk has stopped")]
    ConfirmerStopped,
}

/// Why a server is unfit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not keep events as the configuration demands, or holds events in a format that this
    /// version cannot read.
    #[error("{0}")]
    Unusable(String),
    /// It is a replica, or has too few replicas. A failover changes that, and so does a replica that
    /// connects.
    #[error("{0}")]
    Replication(String),
    /// It holds events in a newer format, which excludes this version. Newer versions can use it.
    #[error("{0}")]
    Excluded(String),
}

// Not `#[from]`: the message already contains the message of the Redis error, which would appear
// again as its cause.
impl From<RedisError> for InboxError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl InboxError {
    /// Returns whether the same call may succeed soon, without anybody changing a setting.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::NotReady(_) | Self::NotPrimary(_) | Self::Unfit(Unfit::Replication(_)) => true,
            Self::Redis(error) => is_temporary(error),
            _ => false,
        }
    }

    /// Returns whether Redis refused the call because its memory is full.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("OOM"))
    }

    /// Returns a short name for the reason, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::NotReady(_) => "unreachable",
            Self::NotOnDisk => "disk",
            Self::TooFewReplicas { .. } => "replicas",
            Self::NoLongerStored
            | Self::Unfit(_)
            | Self::NotPrimary(_)
            | Self::Topology(_)
            | Self::Partitions { .. }
            | Self::UnknownAnswer(_)
            | Self::ConfirmerStopped => "server",
            Self::Redis(error) => match error.kind() {
                ErrorKind::Io => "unreachable",
                _ => "refused",
            },
        }
    }
}

/// Waits for an answer of Redis, but not longer than `limit`.
///
/// # Errors
/// Returns [`InboxError::Timeout`] if there is none by then.
pub(super) async fn within<T, E>(limit: Duration, answer: impl Future<Output = Result<T, E>>) -> Result<T, InboxError>
where
    InboxError: From<E>,
{
    match timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(InboxError::Timeout(limit)),
    }
}

/// Returns whether Redis could not be reached, or answered that it cannot serve this command yet. A
/// certificate that is not trusted stays so.
pub(super) fn is_temporary(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, TryAgain};
    match error.kind() {
        ErrorKind::Io => io_kind(error) != Some(io::ErrorKind::InvalidData),
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | ClusterDown | MasterDown | TryAgain),
        _ => false,
    }
}

/// The kind of the error of the connection. TLS reports what it does not trust as invalid data.
fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    // The client library returns the pointer that it holds.
    let source = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    Some(source.downcast_ref::<io::Error>()?.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_redis_is_not_said_twice() {
        let error = InboxError::from(RedisError::from(io::Error::other("connection reset")));
        let message = format!("{:#}", anyhow::Error::from(error));
        assert!(message.starts_with("Redis: "), "{message}");
        assert_eq!(message.matches("connection reset").count(), 1, "{message}");
    }

    #[test]
    fn an_error_that_passes_by_itself_is_temporary() {
        let answer = |kind: ServerErrorKind| InboxError::from(RedisError::from((ErrorKind::Server(kind), "said")));
        for (error, expected) in [
            (InboxError::Timeout(Duration::from_secs(3)), true),
            (InboxError::NotReady(String::new()), true),
            (InboxError::from(RedisError::from(io::Error::other("connection refused"))), true),
            (InboxError::from(RedisError::from(io::Error::new(io::ErrorKind::InvalidData, "certificate"))), false),
            (answer(ServerErrorKind::BusyLoading), true),
            (answer(ServerErrorKind::NoPerm), false),
            (InboxError::NotPrimary(String::new()), true),
            (InboxError::Unfit(Unfit::Replication(String::new())), true),
            (InboxError::Unfit(Unfit::Unusable(String::new())), false),
            (InboxError::Unfit(Unfit::Excluded(String::new())), false),
            (InboxError::Topology(String::new()), false),
            (InboxError::Partitions { configured: 16, stored: "4".to_owned() }, false),
        ] {
            assert_eq!(error.is_temporary(), expected, "{error:?}");
        }
    }
}
