//! Checks the formats of the partitions on one server, and raises those that are older than this
//! backend's ([`format`]).

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::ConnectionLike};

use crate::inbox::{
    InboxError,
    error::{Unfit, within},
    format::{Problem, SUPPORTED, Stored, User, VERSION, Verdict},
    keys::Keys,
    scripts,
};

/// The check of the formats of all partitions that a server holds.
#[derive(Debug, Clone)]
pub(super) struct Formats {
    pub(super) keys: Keys,
    pub(super) user: User,
    /// How long a check waits for the server's answers.
    pub(super) timeout: Duration,
}

/// The approximate size in bytes of the arguments of `raise_format.lua`.
const SIZE_OF_ARGUMENTS: usize = 32;

impl Formats {
    /// Makes sure that this version may use every partition on the server at the other end of
    /// `connection`. For a backend, raises the format of each partition to this version's.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if a partition has a format that this version must not use.
    /// Every other error proves nothing.
    pub(super) async fn check(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<(), InboxError> {
        within(self.timeout, self.judge_all(address, connection)).await
    }

    async fn judge_all(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<(), InboxError> {
        let mut older = Vec::new();
        for (partition, stored) in self.read(connection).await? {
            let verdict = stored.and_then(|stored| SUPPORTED.judge(&stored, self.user));
            if verdict.map_err(|problem| unfit(address, &problem))? == Verdict::Raise {
                older.push(partition);
            }
        }
        if older.is_empty() {
            return Ok(());
        }
        let raised = self.raise(&older, connection).await?;
        // A newer backend may have been faster.
        for (partition, fields) in older.into_iter().zip(raised) {
            let stored = Stored::read(&self.key(partition), &fields);
            let judged = stored.and_then(|stored| SUPPORTED.judge(&stored, self.user));
            judged.map_err(|problem| unfit(address, &problem))?;
        }
        Ok(())
    }

    /// Raises the formats of these partitions, and returns what is stored then.
    async fn raise(
        &self,
        older: &[u32],
        connection: &mut impl ConnectionLike,
    ) -> Result<Vec<Vec<Option<String>>>, InboxError> {
        scripts::RAISE_FORMAT.load_async(connection).await?;
        let mut calls = redis::pipe();
        for &partition in older {
            let keys = self.keys.of_partition(partition);
            let mut call = scripts::call(&scripts::RAISE_FORMAT, &[&keys.format(), &keys.lease()], SIZE_OF_ARGUMENTS);
            call.arg(SUPPORTED.newest).arg(SUPPORTED.required).arg(VERSION);
            calls.add_command(call);
        }
        Ok(calls.query_async(connection).await?)
    }

    /// Returns the format of each partition that the server holds.
    async fn read(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> Result<Vec<(u32, Result<Stored, Problem>)>, InboxError> {
        let mut commands = redis::pipe();
        for partition in 0..self.keys.partitions() {
            commands.cmd("HMGET").arg(self.key(partition)).arg(&Stored::FIELDS);
        }
        let answers: Vec<RedisResult<Vec<Option<String>>>> = commands.ignore_errors().query_async(connection).await?;
        let mut stored = Vec::new();
        for (partition, answer) in (0..).zip(answers) {
            match answer {
                Err(error) if is_elsewhere(&error) => {}
                answer => stored.push((partition, Stored::answered(&self.key(partition), answer)?)),
            }
        }
        Ok(stored)
    }

    fn key(&self, partition: u32) -> String {
        self.keys.of_partition(partition).format()
    }
}

/// The error of a server with a partition that this version must not use.
pub(in crate::inbox) fn unfit(address: &str, problem: &Problem) -> InboxError {
    let message = format!("Redis at {address} {problem}");
    InboxError::Unfit(match problem {
        Problem::TooNew(_) => Unfit::Excluded(message),
        Problem::TooOld(..) | Problem::NotRaised(..) | Problem::Damaged(_) => Unfit::Unusable(message),
    })
}

/// Returns whether a server of a cluster answers that another server has the key. Any other error,
/// such as CLUSTERDOWN, says nothing about who has the key.
fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask))
}

#[cfg(test)]
mod tests {
    use redis::{Cmd, Pipeline, RedisFuture, Value, parse_redis_value};

    use super::*;

    /// A server that answers each command of a pipeline with the same error.
    struct Failing {
        error: &'static str,
    }

    impl Failing {
        fn answer(&self) -> RedisResult<Value> {
            parse_redis_value(format!("-{}\r\n", self.error).as_bytes())
        }
    }

    impl ConnectionLike for Failing {
        fn req_packed_command<'a>(&'a mut self, _: &'a Cmd) -> RedisFuture<'a, Value> {
            let answer = self.answer();
            Box::pin(async move { answer })
        }

        fn req_packed_commands<'a>(
            &'a mut self,
            pipeline: &'a Pipeline,
            _: usize,
            _: usize,
        ) -> RedisFuture<'a, Vec<Value>> {
            let answer = self.answer();
            Box::pin(async move { Ok(vec![answer?; pipeline.cmd_iter().count()]) })
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    #[tokio::test]
    async fn an_error_proves_nothing_unless_it_says_that_another_server_has_the_key() {
        let formats = Formats { keys: Keys::new("edge", 2), user: User::Backend, timeout: Duration::from_secs(3) };
        for (error, is_fit) in [
            ("MOVED 7 127.0.0.1:7001", true),
            ("ASK 7 127.0.0.1:7001", true),
            ("CLUSTERDOWN The cluster is down", false),
            ("TRYAGAIN Multiple keys request during rehashing of slot", false),
            ("LOADING Redis is loading the dataset in memory", false),
            ("MASTERDOWN Link with MASTER is down", false),
            ("NOPERM this user has no permissions", false),
        ] {
            let checked = formats.check("host:1", &mut Failing { error }).await;
            match checked {
                Ok(()) => assert!(is_fit, "{error}"),
                Err(checked) => assert!(!is_fit && !matches!(checked, InboxError::Unfit(_)), "{error}: {checked:?}"),
            }
        }
    }
}
