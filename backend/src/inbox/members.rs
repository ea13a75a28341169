//! The processes at work.

use std::time::Duration;

use super::{Inbox, InboxError, scripts};

/// How many processes are at work, and this one's place among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attendance {
    members: u32,
    before: u32,
}

impl Attendance {
    /// How many of so many partitions are this process'. All the processes' shares together are all partitions.
    pub fn share(self, partitions: u32) -> usize {
        let members = self.members.max(1);
        let one_more = self.before < partitions % members;
        (partitions / members + u32::from(one_more)) as usize
    }
}

impl Inbox {
    /// Says that the process `member` is at work, and is to be counted for `time_to_live`.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn attend(&self, member: &str, time_to_live: Duration) -> Result<Attendance, InboxError> {
        // A process whose requests arrive at Redis while the answers do not would otherwise go on being counted and taking
        // leases that it does not know of, and nobody would work on its share.
        self.bounded(redis::cmd("PING").exec_async(&mut self.common())).await?;
        let mut call = scripts::ATTEND.prepare_invoke();
        call.key(self.keys.members()).arg(member).arg(u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX));
        let (members, before) = self.bounded(call.invoke_async(&mut self.common())).await?;
        Ok(Attendance { members, before })
    }

    /// Says that the process `member` works no more, so that the others take over at once.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn leave(&self, member: &str) -> Result<(), InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("ZREM").arg(self.keys.members()).arg(member);
        commands.cmd("DEL").arg(self.keys.keeps_to(member));
        self.bounded(commands.exec_async(&mut self.common())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_make_up_the_whole() {
        for partitions in [1, 3, 16, 1_024] {
            for members in 1..=20 {
                let share = |before| Attendance { members, before }.share(partitions);
                let shares: Vec<_> = (0..members).map(share).collect();
                assert_eq!(shares.iter().sum::<usize>(), partitions as usize);
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            }
        }
    }
}
