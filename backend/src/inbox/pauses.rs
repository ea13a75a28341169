//! The features that are not worked on, and which processes keep to that.
//!
//! Each write of what is paused has a version. A process that has begun to keep to a version confirms it: then no new attempt of
//! a paused feature begins there. Whoever pauses a feature waits until every process at work has confirmed.

use std::{collections::HashSet, time::Duration};

use envelope::Feature;

use super::{Inbox, InboxError, scripts};

/// What is paused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    /// How often this was written.
    pub version: u64,
    /// The features that are not worked on.
    pub features: HashSet<Feature>,
}

impl Inbox {
    /// The features that are not worked on.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn paused(&self) -> Result<Paused, InboxError> {
        let mut commands = redis::pipe();
        commands.atomic().cmd("GET").arg(self.keys.paused_version()).cmd("SMEMBERS").arg(self.keys.paused());
        let (version, names): (Option<u64>, Vec<String>) =
            self.bounded(commands.query_async(&mut self.common())).await?;
        let features = names.iter().filter_map(|name| Feature::parse(name)).collect();
        Ok(Paused { version: version.unwrap_or_default(), features })
    }

    /// The version of what is paused, which is cheaper than all of it.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn paused_version(&self) -> Result<u64, InboxError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.paused_version());
        let version: Option<u64> = self.bounded(command.query_async(&mut self.common())).await?;
        Ok(version.unwrap_or_default())
    }

    /// Lets a feature's events wait, or be worked on again, in every process. Returns the version for [`Self::unconfirmed`].
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn pause(&self, feature: Feature, is_paused: bool) -> Result<u64, InboxError> {
        let mut call = scripts::PAUSE.prepare_invoke();
        call.key(self.keys.paused()).key(self.keys.paused_version()).arg(feature.as_str()).arg(u8::from(is_paused));
        self.bounded(call.invoke_async(&mut self.common())).await
    }

    /// Says that the process `member` keeps to this version of what is paused. That counts for `time_to_live`, as its
    /// attendance does.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn confirm_paused(&self, member: &str, version: u64, time_to_live: Duration) -> Result<(), InboxError> {
        let time_to_live = u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX);
        let mut call = scripts::KEEP_TO.prepare_invoke();
        call.key(self.keys.keeps_to(member)).arg(version).arg(time_to_live);
        let _done: bool = self.bounded(call.invoke_async(&mut self.common())).await?;
        Ok(())
    }

    /// The processes at work that have not confirmed that version or a later one.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn unconfirmed(&self, version: u64) -> Result<Vec<String>, InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("TIME").cmd("ZRANGE").arg(self.keys.members()).arg(0).arg(-1).arg("WITHSCORES");
        let (time, members): ((u64, u64), Vec<(String, f64)>) =
            self.bounded(commands.query_async(&mut self.common())).await?;
        // By the server's clock, as in attend.lua.
        let now = time.0 * 1_000 + time.1 / 1_000;
        let alive = members.into_iter().filter(|(_, until)| *until > now as f64);
        let mut unconfirmed = Vec::new();
        for (member, _) in alive {
            let mut command = redis::cmd("GET");
            command.arg(self.keys.keeps_to(&member));
            let keeps_to: Option<u64> = self.bounded(command.query_async(&mut self.common())).await?;
            if keeps_to.is_none_or(|keeps_to| keeps_to < version) {
                unconfirmed.push(member);
            }
        }
        Ok(unconfirmed)
    }
}
