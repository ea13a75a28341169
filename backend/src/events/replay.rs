//! The replay of dead letters: of those that a filter selects, oldest first, at a limited rate.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Event, Filter, State, Walk};
use crate::{
    inbox::{DeadLetter, Inbox, InboxError, Kept, Order},
    units::count,
};

/// Reads the dead letters that a filter selects, oldest first.
pub struct Letters<'a> {
    inbox: &'a Inbox,
    walk: Walk<'a>,
    filter: Filter,
}

/// What a replay did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Dead letters that were returned to the inbox.
    pub replayed: u64,
    /// Dead letters whose stored body is not an event.
    pub unreadable: u64,
}

impl<'a> Letters<'a> {
    /// Returns the dead letters that `filter` selects, whatever state it names.
    pub fn new(inbox: &'a Inbox, filter: Filter) -> Self {
        let filter = Filter { state: Some(State::Dead), ..filter };
        Self { inbox, walk: Walk::new(inbox, &filter, Order::OldestFirst, None, usize::MAX), filter }
    }

    /// Returns the next one, and the event that it holds, or `None` after the last one.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn next(&mut self) -> Result<Option<(DeadLetter, Event)>, InboxError> {
        while let Some(stored) = self.walk.next().await? {
            let event = Event::of(&stored).filter(|event| self.filter.selects(event));
            if let (Kept::Dead(letter), Some(event)) = (stored.what, event) {
                return Ok(Some((letter, event)));
            }
        }
        Ok(None)
    }

    /// Returns the dead letters to the inbox, at most `rate` per second. Those of one lane keep the
    /// order in which they became dead letters. Reports what it has done after each one, and ends
    /// early if `stop` is cancelled.
    ///
    /// # Errors
    /// If Redis does not answer. What was done until then stays done.
    pub async fn replay(
        mut self,
        rate: f64,
        stop: &CancellationToken,
        mut report: impl FnMut(&Replayed),
    ) -> Result<Replayed, InboxError> {
        let mut done = Replayed::default();
        let mut next_at = Instant::now();
        while let Some(next) = stop.run_until_cancelled(self.next_at(next_at)).await {
            let Some(letter) = next? else { break };
            if letter.name.is_some() {
                next_at = next_at.max(Instant::now()) + Duration::from_secs_f64(1.0 / rate);
            }
            let is_replayed = self.inbox.replay(&letter).await?;
            done.add(&letter, is_replayed);
            report(&done);
        }
        Ok(done)
    }

    /// Returns the next one: one that can be replayed not before `moment`.
    async fn next_at(&mut self, moment: Instant) -> Result<Option<DeadLetter>, InboxError> {
        let Some((letter, _)) = self.next().await? else { return Ok(None) };
        if letter.name.is_some() {
            sleep_until(moment).await;
        }
        Ok(Some(letter))
    }
}

impl Replayed {
    /// Counts a dead letter.
    pub fn add(&mut self, letter: &DeadLetter, is_replayed: bool) {
        self.replayed += u64::from(is_replayed);
        self.unreadable += u64::from(letter.name.is_none());
    }

    /// Says what was done; `verb` is `replayed` or `would replay`.
    pub fn summary(&self, verb: &str) -> String {
        let summary = format!("{verb} {}", count(self.replayed, "dead letter"));
        match self.unreadable {
            0 => summary,
            1 => summary + "; 1 cannot be replayed because its stored body is not an event",
            more => format!("{summary}; {more} cannot be replayed because their stored bodies are not events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_why_dead_letters_are_left() {
        for (replayed, unreadable, verb, expected) in [
            (3, 0, "would replay", "would replay 3 dead letters"),
            (1, 0, "replayed", "replayed 1 dead letter"),
            (
                12,
                1,
                "replayed",
                "replayed 12 dead letters; 1 cannot be replayed because its stored body is not an event",
            ),
            (
                0,
                2,
                "replayed",
                "replayed 0 dead letters; 2 cannot be replayed because their stored bodies are not events",
            ),
        ] {
            assert_eq!(Replayed { replayed, unreadable }.summary(verb), expected);
        }
    }
}
