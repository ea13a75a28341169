//! The paused features, and which backends have paused them.
//!
//! Each change of the paused features increments their version. A backend confirms a version once
//! it starts no new attempt of a feature that is paused in that version. `backend pause` waits
//! until every working backend has confirmed.

use std::{collections::HashSet, time::Duration};

use envelope::Feature;
use tokio::time::{Instant, sleep};

use super::{Inbox, InboxError, scripts};
use crate::time::duration_millis;

/// Interval between checks whether all backends have confirmed a pause.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The paused features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    /// How many times the paused features have been changed.
    pub version: u64,
    /// The features whose events are not handled.
    pub features: HashSet<Feature>,
}

impl Inbox {
    /// Returns the paused features.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn paused(&self) -> Result<Paused, InboxError> {
        let mut commands = redis::pipe();
        commands.atomic().cmd("GET").arg(self.keys.paused_version()).cmd("SMEMBERS").arg(self.keys.paused());
        let (version, names): (Option<u64>, Vec<String>) =
            self.bounded(commands.query_async(&mut self.common())).await?;
        let features = names.iter().filter_map(|name| Feature::parse(name)).collect();
        Ok(Paused { version: version.unwrap_or_default(), features })
    }

    /// Returns the version of the paused features, which costs less than reading all of them.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn paused_version(&self) -> Result<u64, InboxError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.paused_version());
        let version: Option<u64> = self.bounded(command.query_async(&mut self.common())).await?;
        Ok(version.unwrap_or_default())
    }

    /// Pauses a feature in every backend. Returns the version to pass to [`Self::unconfirmed`].
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn pause(&self, feature: Feature) -> Result<u64, InboxError> {
        self.change_paused("SADD", feature).await
    }

    /// Resumes a feature in every backend. Returns the version of the paused features.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn resume(&self, feature: Feature) -> Result<u64, InboxError> {
        self.change_paused("SREM", feature).await
    }

    async fn change_paused(&self, command: &'static str, feature: Feature) -> Result<u64, InboxError> {
        let mut call = scripts::PAUSE.prepare_invoke();
        call.key(self.keys.paused()).key(self.keys.paused_version()).arg(command).arg(feature.as_str());
        self.bounded(call.invoke_async(&mut self.common())).await
    }

    /// Confirms that the backend `member` has paused the features of this version. The confirmation
    /// expires after `time_to_live`, as the backend's registration does.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn confirm_paused(&self, member: &str, version: u64, time_to_live: Duration) -> Result<(), InboxError> {
        let mut call = scripts::CONFIRM_PAUSE.prepare_invoke();
        call.key(self.keys.confirmed_pause(member)).arg(version).arg(duration_millis(time_to_live));
        let _done: bool = self.bounded(call.invoke_async(&mut self.common())).await?;
        Ok(())
    }

    /// Waits until every working backend has confirmed this version or a later one, for at most
    /// `patience`. Returns those that have not.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn wait_for_confirmations(&self, version: u64, patience: Duration) -> Result<Vec<String>, InboxError> {
        let deadline = Instant::now() + patience;
        loop {
            let unconfirmed = self.unconfirmed(version).await?;
            if unconfirmed.is_empty() || Instant::now() > deadline {
                return Ok(unconfirmed);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the working backends that have confirmed neither this version nor a later one.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn unconfirmed(&self, version: u64) -> Result<Vec<String>, InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("TIME").cmd("ZRANGE").arg(self.keys.members()).arg(0).arg(-1).arg("WITHSCORES");
        let (time, members): ((u64, u64), Vec<(String, f64)>) =
            self.bounded(commands.query_async(&mut self.common())).await?;
        // By the clock of Redis, as in attend.lua.
        let now = time.0 * 1_000 + time.1 / 1_000;
        let mut unconfirmed = Vec::new();
        for (member, expires_at) in members {
            if expires_at <= now as f64 {
                continue;
            }
            let mut command = redis::cmd("GET");
            command.arg(self.keys.confirmed_pause(&member));
            let confirmed: Option<u64> = self.bounded(command.query_async(&mut self.common())).await?;
            if confirmed.is_none_or(|confirmed| confirmed < version) {
                unconfirmed.push(member);
            }
        }
        Ok(unconfirmed)
    }
}
