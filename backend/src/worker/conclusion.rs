//! What follows from a failed attempt.

use std::time::{Duration, SystemTime};

use crate::{config, handler::Retry};

/// What happens to an event after a failed attempt. `attempts` is the number of attempts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// The event becomes a dead letter.
    DeadLetter { attempts: u32 },
    /// The event waits for a retry.
    Retry { attempts: u32 },
    /// The event waits for a retry too, but this attempt does not count.
    Defer { attempts: u32 },
}

impl Conclusion {
    /// Returns the number of attempts so far.
    pub(super) fn attempts(self) -> u32 {
        match self {
            Self::DeadLetter { attempts } | Self::Retry { attempts } | Self::Defer { attempts } => attempts,
        }
    }
}

/// Returns the age of an event: the time since it was received, or since Redis added its entry if
/// that is longer ago. The clock of the backend that received the event may have been ahead.
pub(super) fn age(now: SystemTime, received_at: SystemTime, added_at: SystemTime) -> Duration {
    now.duration_since(received_at.min(added_at)).unwrap_or_default()
}

/// Returns what follows from a failed attempt of an event that has had `attempts` attempts before,
/// and that arrived `age` ago.
///
/// The backend gives up on an event if no retry can help, or if the event is old enough and has had
/// enough attempts.
pub(super) fn conclude(settings: &config::Worker, retry: Retry, attempts: u32, age: Duration) -> Conclusion {
    if let Retry::Deferred(_) = retry {
        return Conclusion::Defer { attempts };
    }
    let attempts = attempts.saturating_add(1);
    if retry == Retry::Never || is_given_up(settings, attempts, age) {
        return Conclusion::DeadLetter { attempts };
    }
    Conclusion::Retry { attempts }
}

fn is_given_up(settings: &config::Worker, attempts: u32, age: Duration) -> bool {
    crate::mutation::instead!(GiveUpByCount => attempts >= 24);
    age >= settings.give_up_after && attempts >= settings.min_attempts
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::worker::backoff::tests::settings;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    #[test]
    fn an_event_is_given_up_when_it_is_old_and_has_had_enough_attempts() {
        let settings = config::Worker { give_up_after: hours(72), min_attempts: 12, ..settings() };
        let later = Retry::Later;
        let after = Retry::After(hours(1));
        let deferred = Retry::Deferred(hours(1));
        for (retry, attempts, age, expected) in [
            (later, 0, hours(0), Conclusion::Retry { attempts: 1 }),
            (later, u32::MAX, hours(71), Conclusion::Retry { attempts: u32::MAX }),
            (later, 999, hours(71), Conclusion::Retry { attempts: 1_000 }),
            (later, 10, hours(72), Conclusion::Retry { attempts: 11 }),
            (later, 11, hours(72), Conclusion::DeadLetter { attempts: 12 }),
            (later, 10, Duration::MAX, Conclusion::Retry { attempts: 11 }),
            (later, 11, Duration::MAX, Conclusion::DeadLetter { attempts: 12 }),
            (after, 0, hours(0), Conclusion::Retry { attempts: 1 }),
            (after, 11, hours(72), Conclusion::DeadLetter { attempts: 12 }),
            (Retry::Never, 0, hours(0), Conclusion::DeadLetter { attempts: 1 }),
            (Retry::Never, 11, hours(72), Conclusion::DeadLetter { attempts: 12 }),
            (deferred, 0, hours(0), Conclusion::Defer { attempts: 0 }),
            (deferred, 1_000, Duration::MAX, Conclusion::Defer { attempts: 1_000 }),
        ] {
            assert_eq!(conclude(&settings, retry, attempts, age), expected, "{retry:?}, {attempts}, {age:?}");
        }
    }

    #[test]
    fn with_no_minimum_age_the_number_of_attempts_decides() {
        let settings = config::Worker { give_up_after: Duration::ZERO, min_attempts: 12, ..settings() };
        assert_eq!(conclude(&settings, Retry::Later, 10, Duration::ZERO), Conclusion::Retry { attempts: 11 });
        assert_eq!(conclude(&settings, Retry::Later, 11, Duration::ZERO), Conclusion::DeadLetter { attempts: 12 });
    }

    #[test]
    fn an_event_that_was_received_while_a_clock_was_ahead_is_as_old_as_its_entry() {
        let now = SystemTime::UNIX_EPOCH + hours(500_000);
        let years = hours(26_280);
        for (received_at, added_at, expected) in [
            (now + years, now - hours(73), hours(73)),
            (now - hours(73), now - hours(73), hours(73)),
            // A dead letter that was replayed has a new entry.
            (now - hours(73), now, hours(73)),
            // The clock of Redis was ahead.
            (now - hours(73), now + years, hours(73)),
            // Both were ahead: an age is never negative.
            (now + years, now + hours(1), Duration::ZERO),
            (crate::time::from_millis(u64::MAX), crate::time::from_millis(u64::MAX), Duration::ZERO),
        ] {
            assert_eq!(age(now, received_at, added_at), expected);
        }
    }

    proptest! {
        #[test]
        fn an_event_that_is_given_up_would_also_be_given_up_when_older_or_after_more_attempts(
            give_up_after in 0_u64..100, min_attempts in 1_u32..20,
            attempts in 0_u32..30, age in 0_u64..200, more in 0_u32..10, longer in 0_u64..100,
        ) {
            let give_up_after = hours(give_up_after);
            let settings = config::Worker { give_up_after, min_attempts, ..settings() };
            let is_given_up = |attempts, age| {
                matches!(conclude(&settings, Retry::Later, attempts, hours(age)), Conclusion::DeadLetter { .. })
            };
            prop_assert!(!is_given_up(attempts, age) || is_given_up(attempts + more, age + longer));
        }
    }
}
