//! How long an event waits before its next attempt.

use std::time::Duration;

use crate::{config, handler::Retry};

/// Returns a random wait before the next attempt of an event that has had `attempts` attempts.
///
/// The wait is random between zero and a ceiling that doubles with each attempt (full jitter), so
/// that events which failed together are not attempted together again.
pub(super) fn delay(settings: &config::Worker, attempts: u32, retry: Retry) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let ceiling = settings.backoff_base.saturating_mul(1 << doublings).min(settings.backoff_cap);
    let jittered = ceiling.mul_f64(fastrand::f64());
    // A server's `Retry-After` is capped too: it may ask for a year.
    let as_requested = |after: Duration| after.min(settings.backoff_cap) + jittered.min(SPREAD);
    match retry {
        // At least as long as requested. The back-off still grows beyond it: a server that always
        // requests one second would otherwise get an attempt each second for as long as it is down.
        Retry::After(after) => as_requested(after).max(jittered),
        Retry::Deferred(after) => as_requested(after),
        Retry::Later | Retry::Never => jittered,
    }
}

/// The longest random wait that is added to a requested one. It keeps events for which the same
/// wait was requested from being attempted together.
const SPREAD: Duration = Duration::from_secs(1);

/// Returns the longest wait that [`delay`] can return.
pub(super) fn longest(settings: &config::Worker) -> Duration {
    settings.backoff_cap.saturating_add(SPREAD)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{prelude::*, prop_assert, proptest};

    use super::*;

    /// Settings of which only the back-off matters.
    pub(in crate::worker) fn settings() -> config::Worker {
        config::Worker {
            parallelism: 1,
            window: 1,
            lease: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(60),
            give_up_after: Duration::ZERO,
            min_attempts: 1,
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_wait_is_random_below_a_ceiling_that_doubles_up_to_a_cap() {
        for (attempts, ceiling) in [(1, 1), (2, 2), (3, 4), (7, 60), (40, 60), (u32::MAX, 60)] {
            let delays: Vec<_> = (0..200).map(|_| delay(&settings(), attempts, Retry::Later)).collect();
            let shortest = *delays.iter().min().unwrap();
            let longest = *delays.iter().max().unwrap();
            let ceiling = Duration::from_secs(ceiling);
            assert!(
                longest <= ceiling && longest > ceiling / 2 && shortest < ceiling / 2,
                "{attempts}: {shortest:?} to {longest:?}"
            );
        }
    }

    #[test]
    fn a_retry_after_is_honoured_up_to_the_cap() {
        let requested = |seconds| delay(&settings(), 1, Retry::After(Duration::from_secs(seconds)));
        let thirty = requested(30);
        assert!((Duration::from_secs(30)..=Duration::from_secs(31)).contains(&thirty), "{thirty:?}");
        assert!(requested(86_400) <= Duration::from_secs(61));
    }

    #[test]
    fn a_short_retry_after_does_not_keep_the_back_off_from_growing() {
        for after in [Duration::ZERO, Duration::from_secs(1)] {
            let longest = (0..200).map(|_| delay(&settings(), 40, Retry::After(after))).max().unwrap();
            assert!(longest > Duration::from_secs(30), "{after:?}: at most {longest:?}");
        }
        // A deferral is not a failure, so the back-off does not apply to it.
        assert!(delay(&settings(), 40, Retry::Deferred(Duration::ZERO)) <= SPREAD);
    }

    /// From zero to the longest duration there is, short ones as often as long ones.
    fn durations() -> impl Strategy<Value = Duration> {
        (0_u32..64, 0_u64..=u64::MAX).prop_map(|(shift, millis)| Duration::from_millis(millis >> shift))
    }

    proptest! {
        #[test]
        fn a_wait_is_at_least_as_long_as_requested_and_at_most_the_longest(
            base in 1_u64..86_400_000, cap in 1_u64..86_400_000, attempts: u32, after in durations(),
        ) {
            let backoff_cap = Duration::from_millis(cap.max(base));
            let settings = config::Worker { backoff_base: Duration::from_millis(base), backoff_cap, ..settings() };
            for retry in [Retry::Never, Retry::Later, Retry::After(after), Retry::Deferred(after)] {
                let wait = delay(&settings, attempts, retry);
                prop_assert!(wait <= longest(&settings), "{:?}: {:?}", retry, wait);
                if let Retry::After(_) | Retry::Deferred(_) = retry {
                    prop_assert!(wait >= after.min(backoff_cap), "{:?}: {:?}", retry, wait);
                }
            }
            let unlimited = settings.backoff_base.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
            prop_assert!(delay(&settings, attempts, Retry::Later) <= unlimited);
        }
    }
}
