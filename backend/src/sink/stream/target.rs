//! The application's stream, and the server that holds it.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, RedisResult, Value, aio::MultiplexedConnection,
    io::tcp::TcpSettings,
};

use super::StreamError;
use crate::{
    config::{self, Durability},
    time::duration_millis,
    tls, traces,
};

/// The stream, and how it is to be used.
pub(super) struct Target {
    client: Client,
    pub(super) stream: String,
    max_length: u64,
    durability: Durability,
    /// How long an outcome may take.
    pub(super) timeout: Duration,
}

/// What the server says about the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The server's address.
    pub address: String,
    /// How many entries the stream has.
    pub length: u64,
    /// How many it may have.
    pub max_length: u64,
}

const ADD: &str = include_str!("add.lua");
const PROVE: &str = include_str!("prove.lua");

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may stay unacknowledged before the kernel closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// The share of the timeout for which Redis waits for its disk or its replicas. The rest leaves
/// time for its answer.
const BLOCKING_SHARE: f64 = 0.9;

impl Target {
    /// Returns the target that the settings describe.
    ///
    /// # Errors
    /// If `sink.redis_url` is not a URL of Redis.
    pub(super) fn new(settings: &config::Sink) -> RedisResult<Self> {
        tls::prepare();
        let tcp = TcpSettings::default().set_user_timeout(TCP_USER_TIMEOUT);
        let info = settings.redis_url.reveal().into_connection_info()?;
        Ok(Self {
            client: Client::open(info.set_tcp_settings(tcp))?,
            stream: settings.stream.clone(),
            max_length: settings.max_length,
            durability: settings.durability,
            timeout: settings.timeout,
        })
    }

    /// Connects, and makes sure that the server can keep outcomes, as far as it says so.
    ///
    /// # Errors
    /// If the server cannot be reached, or cannot keep outcomes.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, StreamError> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // The caller has a timeout of its own.
            .set_response_timeout(None);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&settings).await?;
        ensure_suitable(&redis::cmd("INFO").query_async::<String>(&mut connection).await?)?;
        // Nothing was written over this connection, so the answer comes at once.
        if let Some(confirm) = self.confirmation(Duration::ZERO) {
            self.confirmed(confirm.query_async(&mut connection).await)?;
        }
        Ok(connection)
    }

    /// Connects, and makes sure, by a write that leaves nothing, that what is written becomes durable.
    /// An outcome that is added to a server that does not confirm it would be added again by each retry.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not confirm the write.
    pub(super) async fn connect_proven(&self) -> Result<MultiplexedConnection, StreamError> {
        let mut connection = self.connect().await?;
        if let Some(confirm) = self.confirmation(self.timeout / 2) {
            let mut prove = redis::cmd("EVAL");
            () = prove.arg(PROVE).arg(1).arg(&self.stream).query_async(&mut connection).await?;
            self.confirmed(confirm.query_async(&mut connection).await)?;
        }
        Ok(connection)
    }

    /// Returns the command that adds an entry. `trace` is the context of the span of its delivery.
    pub(super) fn entry(
        &self,
        idempotency_key: &str,
        event: &str,
        webhook_id: &str,
        body: &[u8],
        trace: Option<&str>,
    ) -> Cmd {
        // Large enough, so that a large body is not copied again.
        let mut add = Cmd::with_capacity(16, ADD.len() + body.len() + 1_024);
        add.arg("EVAL").arg(ADD).arg(1).arg(&self.stream).arg(self.max_length);
        add.arg("idempotency_key").arg(idempotency_key).arg("event").arg(event);
        add.arg("webhook_id").arg(webhook_id).arg("body").arg(body);
        if let Some(trace) = trace {
            add.arg(traces::HEADER).arg(trace);
        }
        add
    }

    /// Adds entries, and waits until they are durable, for at most `patience`. Returns the result for
    /// each entry.
    ///
    /// # Errors
    /// If the connection fails. It is then unknown which entries were added.
    pub(super) async fn add(
        &self,
        connection: &mut MultiplexedConnection,
        entries: Vec<Cmd>,
        patience: Duration,
    ) -> Result<Vec<Result<(), StreamError>>, StreamError> {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        for entry in entries {
            commands.add_command(entry);
        }
        // `WAIT` and `WAITAOF` cover the writes of their own connection.
        let confirm = self.confirmation(patience);
        let is_confirmed = confirm.is_some();
        if let Some(confirm) = confirm {
            commands.add_command(confirm);
        }
        let mut answers: Vec<RedisResult<Value>> = commands.query_async(connection).await?;
        let confirmed = match answers.pop_if(|_| is_confirmed) {
            Some(answer) => self.confirmed(answer),
            None => Ok(()),
        };
        let result = |answer: RedisResult<Value>| match answer {
            Ok(Value::Nil) => Err(StreamError::Full),
            Ok(_) => confirmed.clone(),
            Err(error) => Err(error.into()),
        };
        Ok(answers.into_iter().map(result).collect())
    }

    /// Asks about the stream.
    ///
    /// # Errors
    /// If the server cannot be reached or cannot keep outcomes, or if the key is not a stream.
    pub(super) async fn examine(&self) -> Result<StreamState, StreamError> {
        let mut connection = self.connect().await?;
        let length = redis::cmd("XLEN").arg(&self.stream).query_async(&mut connection).await?;
        let address = self.client.get_connection_info().addr().to_string();
        Ok(StreamState { address, length, max_length: self.max_length })
    }

    /// Returns the command that waits until what was written over the same connection is durable, so
    /// long that the answer comes within `patience`; `None` if the server's memory is enough.
    fn confirmation(&self, patience: Duration) -> Option<Cmd> {
        let mut command = match self.durability {
            Durability::Memory => return None,
            Durability::Fsync => redis::cmd("WAITAOF").arg(1).arg(0).to_owned(),
            Durability::Replicas(replicas) => redis::cmd("WAIT").arg(replicas).to_owned(),
        };
        // To Redis, 0 means forever.
        command.arg(duration_millis(patience.mul_f64(BLOCKING_SHARE)).max(1));
        Some(command)
    }

    /// Judges the answer to that command: the number of replicas, or the numbers of disks and of
    /// replicas.
    fn confirmed(&self, answer: RedisResult<Value>) -> Result<(), StreamError> {
        let not_durable = |problem| Err(StreamError::NotDurable(problem, self.durability));
        let acknowledged = match answer.map_err(StreamError::from) {
            Ok(Value::Array(numbers)) => numbers.into_iter().next(),
            Ok(number) => Some(number),
            Err(StreamError::Refused(said)) => return not_durable(said),
            Err(error) => return Err(error),
        };
        let acknowledged = match acknowledged {
            Some(Value::Int(number)) => number,
            _ => 0,
        };
        match self.durability {
            Durability::Fsync if acknowledged < 1 => not_durable("its disk has not confirmed in time".to_owned()),
            Durability::Replicas(needed) if acknowledged < needed.into() => {
                not_durable(format!("{acknowledged} of {needed} replicas have confirmed in time"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether a URL of Redis has a password.
pub fn has_password(url: &str) -> bool {
    url.into_connection_info().is_ok_and(|info| info.redis_settings().password().is_some())
}

/// Makes sure, from the answer of `INFO`, that a server accepts and keeps what is added.
fn ensure_suitable(info: &str) -> Result<(), StreamError> {
    let value = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    if value("role") == Some("slave") {
        return Err(StreamError::ReadOnly);
    }
    // The other policies evict only keys with an expiry, which the stream does not have.
    match value("maxmemory_policy") {
        Some(policy) if policy.starts_with("allkeys") => Err(StreamError::Evicts(policy.to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(durability: Durability) -> Target {
        Target {
            client: Client::open("redis://127.0.0.1:1").unwrap(),
            stream: "outcomes".to_owned(),
            max_length: 10,
            durability,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn replicas_and_servers_that_evict_the_stream_are_not_used() {
        for (info, expected) in [
            ("role:master\r\nmaxmemory_policy:noeviction\r\n", Ok(())),
            ("role:master\r\nmaxmemory_policy:volatile-lru\r\n", Ok(())),
            ("# Server\r\nnothing else\r\n", Ok(())),
            ("role:slave\r\nmaxmemory_policy:noeviction\r\n", Err(StreamError::ReadOnly)),
            ("role:master\r\nmaxmemory_policy:allkeys-lfu\r\n", Err(StreamError::Evicts("allkeys-lfu".to_owned()))),
        ] {
            assert_eq!(ensure_suitable(info), expected, "{info}");
        }
    }

    #[test]
    fn a_user_without_a_password_is_noticed() {
        for (url, expected) in [
            ("redis://partner:secret@host", true),
            ("redis://:secret@host", true),
            ("redis://partner@host", false),
            ("redis://host", false),
        ] {
            assert_eq!(has_password(url), expected, "{url}");
        }
    }

    #[test]
    fn enough_disks_or_replicas_must_confirm() {
        let disk = |number| Value::Array(vec![Value::Int(number), Value::Int(0)]);
        for (durability, answer, is_confirmed) in [
            (Durability::Fsync, disk(1), true),
            (Durability::Fsync, disk(0), false),
            (Durability::Fsync, Value::Array(vec![]), false),
            (Durability::Replicas(2), Value::Int(2), true),
            (Durability::Replicas(2), Value::Int(1), false),
            (Durability::Replicas(2), Value::Nil, false),
        ] {
            let confirmed = target(durability).confirmed(Ok(answer.clone()));
            assert_eq!(confirmed.is_ok(), is_confirmed, "{durability:?} {answer:?}: {confirmed:?}");
        }
        assert!(target(Durability::Memory).confirmation(Duration::ZERO).is_none());
    }
}
