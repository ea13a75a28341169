//! How long to wait before trying again.

use std::time::Duration;

use crate::{config, handler::Retry};

/// The wait after the `attempts`th try: full jitter, so that what failed together is not tried again together.
pub(super) fn delay(settings: &config::Worker, attempts: u32, retry: Retry) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let ceiling = settings.backoff_base.saturating_mul(1 << doublings).min(settings.backoff_cap);
    let jittered = ceiling.mul_f64(fastrand::f64());
    // What a server asks for is bounded too: it may ask for a year.
    let spread = |asked: Duration| asked.min(settings.backoff_cap) + jittered.min(SPREAD);
    match retry {
        // No sooner than asked for. Later after many failures: a server that always asks for a second would otherwise get an
        // attempt each second for as long as it is down.
        Retry::After(asked) => spread(asked).max(jittered),
        Retry::Deferred(asked) => spread(asked),
        Retry::Later | Retry::Never => jittered,
    }
}

/// How far apart the attempts are spread that a server asks for at the same time, at most.
const SPREAD: Duration = Duration::from_secs(1);

/// The longest wait that [`delay`] returns.
pub(super) fn longest(settings: &config::Worker) -> Duration {
    settings.backoff_cap.saturating_add(SPREAD)
}

#[cfg(test)]
pub(super) mod tests {
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
            let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
            let ceiling = Duration::from_secs(ceiling);
            assert!(
                *most <= ceiling && *most > ceiling / 2 && *least < ceiling / 2,
                "{attempts}: {least:?} to {most:?}"
            );
        }
    }

    #[test]
    fn a_servers_wish_is_honoured_up_to_the_cap() {
        let wished = |seconds| delay(&settings(), 1, Retry::After(Duration::from_secs(seconds)));
        assert!(wished(30) >= Duration::from_secs(30) && wished(30) <= Duration::from_secs(31));
        assert!(wished(86_400) <= Duration::from_secs(61));
    }

    #[test]
    fn a_server_that_asks_for_a_short_wait_each_time_does_not_keep_the_waits_from_growing() {
        for asked in [Duration::ZERO, Duration::from_secs(1)] {
            let longest = (0..200).map(|_| delay(&settings(), 40, Retry::After(asked))).max().unwrap();
            assert!(longest > Duration::from_secs(30), "{asked:?}: at most {longest:?}");
        }
        // What was not attempted is no failure, and comes when it was told to.
        assert!(delay(&settings(), 40, Retry::Deferred(Duration::ZERO)) <= SPREAD);
    }

    #[test]
    fn no_wait_is_longer_than_the_longest_whatever_is_asked_for() {
        for asked in [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(u64::MAX), Duration::MAX] {
            for retry in [Retry::Never, Retry::Later, Retry::After(asked), Retry::Deferred(asked)] {
                for attempts in [0, 1, 32, u32::MAX] {
                    assert!(delay(&settings(), attempts, retry) <= longest(&settings()), "{retry:?}, {attempts}");
                }
            }
        }
    }
}
