//! The backends that share the partitions among themselves.

use std::time::Duration;

use super::{Inbox, InboxError, scripts};
use crate::time::duration_millis;

/// How many backends are working, and this one's rank among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attendance {
    members: u32,
    rank: u32,
}

impl Attendance {
    /// Returns the attendance of the backend with this rank among `members` backends.
    pub(crate) fn new(members: u32, rank: u32) -> Self {
        Self { members, rank }
    }

    /// Returns how many of `partitions` this backend should own.
    ///
    /// The shares of all backends differ by at most one and cover all partitions.
    pub fn share(self, partitions: u32) -> usize {
        let members = self.members.max(1);
        let remainder = partitions % members;
        let one_more = u32::from(self.rank < remainder);
        (partitions / members + one_more) as usize
    }
}

impl Inbox {
    /// Registers the backend `member` as working for the next `time_to_live`, and returns its rank
    /// among all backends.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn attend(&self, member: &str, time_to_live: Duration) -> Result<Attendance, InboxError> {
        // `PING` first: a backend whose requests reach Redis but which receives no answers must not
        // register, or it would keep a share of partitions on which nobody works.
        self.bounded(redis::cmd("PING").exec_async(&mut self.common())).await?;
        let mut call = scripts::ATTEND.prepare_invoke();
        call.key(self.keys.members()).arg(member).arg(duration_millis(time_to_live));
        let (members, rank) = self.bounded(call.invoke_async(&mut self.common())).await?;
        Ok(Attendance::new(members, rank))
    }

    /// Removes the backend `member`, so that the others take over its share at once.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn leave(&self, member: &str) -> Result<(), InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("ZREM").arg(self.keys.members()).arg(member);
        commands.cmd("DEL").arg(self.keys.confirmed_pause(member));
        self.bounded(commands.exec_async(&mut self.common())).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn shares_differ_by_at_most_one_and_cover_all_partitions(partitions in 1_u32..=2_048, members in 1_u32..=300) {
            let least = (partitions / members) as usize;
            let mut total = 0;
            for rank in 0..members {
                let share = Attendance::new(members, rank).share(partitions);
                prop_assert!((least..=least + 1).contains(&share));
                total += share;
            }
            prop_assert_eq!(total, partitions as usize);
        }
    }

    #[test]
    fn a_backend_that_is_not_counted_gets_all_partitions() {
        assert_eq!(Attendance::new(0, 0).share(16), 16);
    }
}
