//! The share of the calls that cases get which were never seen to exist, while most such cases do not exist.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::config;

/// The share: how many calls at once, and the time between two.
pub(super) struct Share {
    permits: Semaphore,
    spacing: Duration,
}

/// When the share's next call may be made.
pub(super) struct Slots {
    next: Instant,
    /// When the event that was held back last is to come again.
    again: Instant,
}

/// How far ahead events that are held back are spread, at most.
const LONGEST: Duration = Duration::from_secs(900);

impl Share {
    pub(super) fn new(settings: &config::PartnerApi) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 10,000")]
        let permits = (settings.max_concurrent as f64 * settings.unknown_share).max(1.0) as usize;
        let spacing = Duration::from_secs_f64(1.0 / (settings.rate_per_second * settings.unknown_share));
        Self { permits: Semaphore::new(permits), spacing }
    }

    pub(super) fn slots(&self) -> Slots {
        Slots { next: Instant::now(), again: Instant::now() }
    }

    /// A call of the share, or after which time to come again. Nothing waits here: what is held back holds nothing that
    /// others could use. The times to come again are as far apart as the share's calls, so that few come in vain.
    pub(super) fn pass(&self, slots: &mut Slots) -> Result<SemaphorePermit<'_>, Duration> {
        let now = Instant::now();
        match self.permits.try_acquire() {
            Ok(permit) if slots.next <= now => {
                slots.next = now + self.spacing;
                Ok(permit)
            }
            _ => Err(self.come_again(slots, now)),
        }
    }

    fn come_again(&self, slots: &mut Slots, now: Instant) -> Duration {
        slots.again = slots.again.max(now) + self.spacing;
        if slots.again <= now + LONGEST {
            return slots.again - now;
        }
        // More are held back than the share can take in that time. They are spread over the second half of it.
        slots.again = now + LONGEST;
        LONGEST.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_share_is_kept_and_what_is_held_back_is_spread() {
        let share = Share { permits: Semaphore::new(1), spacing: Duration::from_millis(500) };
        let mut slots = share.slots();
        let first = share.pass(&mut slots).unwrap();
        let waits: Vec<_> = (1..=4).map(|_| share.pass(&mut slots).unwrap_err().as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 1_500, 2_000]);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(share.pass(&mut slots).is_err(), "one at once");
        drop(first);
        drop(share.pass(&mut slots).unwrap());
        assert!(share.pass(&mut slots).is_err(), "one in each half second");

        let mut taken = 0;
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            taken += u32::from(share.pass(&mut slots).is_ok());
        }
        assert!((18..=21).contains(&taken), "{taken} in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_for_too_long() {
        let share = Share { permits: Semaphore::new(1), spacing: Duration::from_secs(10) };
        let mut slots = share.slots();
        let _first = share.pass(&mut slots);
        let waits: Vec<_> = (0..1_000).map(|_| share.pass(&mut slots).unwrap_err()).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[500..].iter().all(|wait| *wait >= LONGEST / 2));
    }
}
