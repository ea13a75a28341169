//! Why an outcome is not, or not for certain, in the application's stream.

use redis::{ErrorKind, RedisError};

use crate::{
    config::Durability,
    handler::{HandlerError, Retry},
};

/// Why the stream cannot be used, or an outcome was not added to it for certain. Each message says
/// what happened and, after the last colon, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// There is no connection, or it broke.
    #[error(
        "the sink's Redis cannot be reached ({0}): check `sink.redis_url`, and that Redis runs and can be reached from \
         here"
    )]
    Unreachable(String),
    /// There was no answer in time.
    #[error("the sink's Redis did not answer within `sink.timeout_ms`: check its load, disk and network")]
    Timeout,
    /// The stream has as many entries as are allowed.
    #[error(
        "the stream has `sink.max_length` entries: check that the application reads, acknowledges and deletes them, or \
         raise the limit"
    )]
    Full,
    /// The server's memory is full.
    #[error(
        "the sink's Redis has reached its `maxmemory`: check that the application deletes the entries that it has \
         handled, or raise `maxmemory`"
    )]
    OutOfMemory,
    /// The server is a replica.
    #[error("the sink's Redis is a replica, which adds nothing: set `sink.redis_url` to the primary")]
    ReadOnly,
    /// The server does not know the user, or does not let it do this.
    #[error(
        "the sink's Redis does not allow it ({0}): check the user and password in `sink.redis_url`, and what the user \
         may do (docs/OUTCOMES.md)"
    )]
    Unauthorized(String),
    /// The key holds something else.
    #[error("the key that `sink.stream` names is not a stream: set `sink.stream` to another name")]
    WrongType,
    /// Another server of a cluster holds the stream.
    #[error("another server of the cluster holds the stream ({0}): set `sink.redis_url` to that server")]
    Moved(String),
    /// The server evicts keys.
    #[error(
        "the sink's Redis may drop the stream when its memory is full (`maxmemory-policy {0}`): set `maxmemory-policy` to \
         `noeviction`"
    )]
    Evicts(String),
    /// The server cannot keep outcomes as demanded.
    #[error("the sink's Redis does not keep outcomes as `sink.durability` demands ({0}): {advice}", advice = advice(*.1))]
    NotDurable(String, Durability),
    /// The server answered with another error.
    #[error("the sink's Redis answered with an error ({0}): check its log")]
    Refused(String),
}

/// Returns what to do if a server does not keep outcomes.
fn advice(durability: Durability) -> &'static str {
    if let Durability::Replicas(_) = durability {
        return "connect more replicas, or ask for fewer";
    }
    "use Redis 7.2 or later with `appendonly yes`, and check its disk; or set `sink.durability` to what it can do"
}

impl StreamError {
    /// Returns the code of an attempt that failed for this reason.
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "sink_unreachable",
            Self::Timeout => "sink_timeout",
            Self::Full => "sink_full",
            Self::OutOfMemory => "sink_out_of_memory",
            Self::ReadOnly => "sink_read_only",
            Self::Unauthorized(_) => "sink_unauthorized",
            Self::WrongType => "sink_wrong_type",
            Self::Moved(_) => "sink_moved",
            Self::Evicts(_) | Self::NotDurable(..) => "sink_not_durable",
            Self::Refused(_) => "sink_redis_error",
        }
    }
}

impl From<RedisError> for StreamError {
    fn from(error: RedisError) -> Self {
        let said = error.to_string();
        match (error.kind(), error.code()) {
            (ErrorKind::Io, _) => Self::Unreachable(said),
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "NOPERM" | "WRONGPASS")) => {
                Self::Unauthorized(said)
            }
            // A command that the script may not use has no code of its own.
            _ if said.contains("ACL failure") => Self::Unauthorized(said),
            (_, Some("OOM")) => Self::OutOfMemory,
            (_, Some("READONLY")) => Self::ReadOnly,
            (_, Some("WRONGTYPE")) => Self::WrongType,
            (_, Some("MOVED" | "ASK")) => Self::Moved(said),
            _ => Self::Refused(said),
        }
    }
}

impl From<StreamError> for HandlerError {
    /// Everything is retried: each of these faults is one that somebody will repair.
    fn from(error: StreamError) -> Self {
        Self { code: error.code(), detail: error.to_string(), retry: Retry::Later }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::Value;

    use super::*;

    /// The error that the client library makes of an answer.
    fn answered(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).and_then(Value::extract_error).unwrap_err()
    }

    #[test]
    fn each_error_of_redis_has_a_code_and_says_what_to_do() {
        for (answer, code, advice) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", "sink_out_of_memory", "raise `maxmemory`"),
            ("READONLY You can't write against a read only replica.", "sink_read_only", "to the primary"),
            ("NOAUTH Authentication required.", "sink_unauthorized", "user and password"),
            ("WRONGPASS invalid username-password pair", "sink_unauthorized", "user and password"),
            ("NOPERM User a has no permissions to run 'xadd'", "sink_unauthorized", "what the user may do"),
            (
                "ERR ACL failure in script: User a has no permissions to run the 'xadd' command",
                "sink_unauthorized",
                "may do",
            ),
            ("WRONGTYPE Operation against a key", "sink_wrong_type", "another name"),
            ("MOVED 3999 127.0.0.1:6381", "sink_moved", "to that server"),
            ("LOADING Redis is loading the dataset in memory", "sink_redis_error", "check its log"),
            ("MISCONF Errors writing to the AOF file", "sink_redis_error", "check its log"),
        ] {
            let error = HandlerError::from(StreamError::from(answered(answer)));
            assert_eq!((error.code, error.retry), (code, Retry::Later), "{answer}");
            assert!(error.detail.rsplit_once(": ").is_some_and(|(_, last)| last.contains(advice)), "{}", error.detail);
        }
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(StreamError::from(refused).code(), "sink_unreachable");
    }

    #[test]
    fn what_to_do_depends_on_the_durability() {
        for (durability, advice) in
            [(Durability::Fsync, "`appendonly yes`"), (Durability::Replicas(1), "more replicas")]
        {
            let error = StreamError::NotDurable(String::new(), durability).to_string();
            assert!(error.contains(advice), "{error}");
        }
    }
}
