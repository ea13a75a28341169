//! The share of the calls for new cases, during a flood of events of cases that do not exist.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::config;

/// The limits on calls for new cases: a number of concurrent calls, and the time between two.
pub(super) struct Share {
    permits: Semaphore,
    spacing: Duration,
}

/// The share's schedule.
pub(super) struct Schedule {
    /// When the next call of the share may be made.
    next_call: Instant,
    /// When the event that was held back last is to be handled again.
    last_return: Instant,
}

/// Longest time for which an event is held back.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

impl Share {
    pub(super) fn new(settings: &config::PartnerApi) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 10,000")]
        let permits = (settings.max_concurrent as f64 * settings.unknown_share).max(1.0) as usize;
        let spacing = Duration::from_secs_f64(1.0 / (settings.rate_per_second * settings.unknown_share));
        Self { permits: Semaphore::new(permits), spacing }
    }

    /// Returns a schedule on which a call may be made at once.
    pub(super) fn schedule(&self) -> Schedule {
        let now = Instant::now();
        Schedule { next_call: now, last_return: now }
    }

    /// Takes a call from the share.
    ///
    /// This never waits, since a waiting event would hold a permit that other events could use.
    ///
    /// # Errors
    /// Returns how long to hold the event back if no call of the share is free. These times are as
    /// far apart as the calls of the share, so that most events find a free call when they return.
    pub(super) fn acquire(&self, schedule: &mut Schedule) -> Result<SemaphorePermit<'_>, Duration> {
        let now = Instant::now();
        match self.permits.try_acquire() {
            Ok(permit) if schedule.next_call <= now => {
                schedule.next_call = now + self.spacing;
                Ok(permit)
            }
            _ => Err(self.wait(schedule, now)),
        }
    }

    fn wait(&self, schedule: &mut Schedule, now: Instant) -> Duration {
        schedule.last_return = schedule.last_return.max(now) + self.spacing;
        if schedule.last_return <= now + LONGEST_WAIT {
            return schedule.last_return - now;
        }
        // More events are held back than the share can serve in that time. They return at random
        // times in the second half of it.
        schedule.last_return = now + LONGEST_WAIT;
        LONGEST_WAIT.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_share_is_never_exceeded_and_waits_are_spread() {
        let share = Share { permits: Semaphore::new(1), spacing: Duration::from_millis(500) };
        let mut schedule = share.schedule();
        let first = share.acquire(&mut schedule).unwrap();
        let waits: Vec<_> = (1..=4).map(|_| share.acquire(&mut schedule).unwrap_err().as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 1_500, 2_000]);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(share.acquire(&mut schedule).is_err(), "one call at a time");
        drop(first);
        drop(share.acquire(&mut schedule).unwrap());
        assert!(share.acquire(&mut schedule).is_err(), "one call in each half second");

        let mut calls = 0;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            calls += u32::from(share.acquire(&mut schedule).is_ok());
        }
        assert!((18..=21).contains(&calls), "{calls} calls in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn no_event_is_held_back_for_longer_than_the_longest_wait() {
        let share = Share { permits: Semaphore::new(1), spacing: Duration::from_secs(10) };
        let mut schedule = share.schedule();
        let _first = share.acquire(&mut schedule);
        let waits: Vec<_> = (0..1_000).map(|_| share.acquire(&mut schedule).unwrap_err()).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT));
        assert!(waits[500..].iter().all(|wait| *wait >= LONGEST_WAIT / 2));
    }
}
