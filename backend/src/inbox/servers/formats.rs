//! Checks the formats of the partitions on one server, and raises those that are older than this
//! backend's ([`format`]).

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::ConnectionLike};
use tokio::time::timeout;

use crate::inbox::{
    InboxError,
    format::{self, SUPPORTED, Stored, VERSION, Verdict},
    keys::Keys,
    scripts,
};

/// The check of the formats of all partitions that a server holds.
#[derive(Debug, Clone)]
pub(super) struct Formats {
    pub(super) keys: Keys,
    /// How long a check waits for the server's answers.
    pub(super) timeout: Duration,
}

/// The approximate size in bytes of the arguments of `raise_format.lua`.
const SIZE_OF_ARGUMENTS: usize = 32;

impl Formats {
    /// Makes sure that this backend may use every partition on the server at the other end of
    /// `connection`, and that each has at least this backend's format.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if a partition has a format that this backend must not use.
    /// Every other error proves nothing.
    pub(super) async fn check(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<(), InboxError> {
        match timeout(self.timeout, self.raise(address, connection)).await {
            Ok(checked) => checked,
            Err(_) => Err(InboxError::Timeout(self.timeout)),
        }
    }

    async fn raise(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<(), InboxError> {
        let unfit = |problem: format::Problem| InboxError::Unfit(format!("Redis at {address} {problem}"));
        let mut older = Vec::new();
        for (partition, stored) in self.read(connection).await? {
            if SUPPORTED.judge(&stored).map_err(unfit)? == Verdict::Raise {
                older.push(partition);
            }
        }
        if older.is_empty() {
            return Ok(());
        }
        scripts::RAISE_FORMAT.load_async(connection).await?;
        let mut calls = redis::pipe();
        for &partition in &older {
            let keys = self.keys.of_partition(partition);
            let mut call = scripts::call(&scripts::RAISE_FORMAT, &[&keys.format(), &keys.lease()], SIZE_OF_ARGUMENTS);
            call.arg(SUPPORTED.newest).arg(SUPPORTED.required).arg(VERSION);
            calls.add_command(call);
        }
        let raised: Vec<Vec<Option<String>>> = calls.query_async(connection).await?;
        // A newer backend may have been faster.
        for fields in raised {
            SUPPORTED.judge(&Stored::read(&fields)).map_err(unfit)?;
        }
        Ok(())
    }

    /// Returns the format of each partition that the server holds.
    async fn read(&self, connection: &mut impl ConnectionLike) -> Result<Vec<(u32, Stored)>, InboxError> {
        let mut commands = redis::pipe();
        for partition in 0..self.keys.partitions() {
            commands.cmd("HMGET").arg(self.keys.of_partition(partition).format()).arg(&Stored::FIELDS);
        }
        let answers: Vec<RedisResult<Vec<Option<String>>>> = commands.ignore_errors().query_async(connection).await?;
        let mut stored = Vec::new();
        for (partition, answer) in (0..).zip(answers) {
            match answer {
                Ok(fields) => stored.push((partition, Stored::read(&fields))),
                Err(error) if is_elsewhere(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(stored)
    }
}

/// Returns whether a server of a cluster answers that it does not serve this partition.
fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | ClusterDown | TryAgain))
}
