//! How much the Partner API is called: so many calls at once, so many a second, and none for a while after too many that
//! failed in a row.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout},
};

use super::error::{PartnerApiError, PartnerApiErrorKind as Kind};
use crate::config;

/// Lets calls pass, or says when to come back.
pub(super) struct Gate {
    permits: Semaphore,
    /// The time between two calls.
    spacing: Duration,
    failures_to_open: u32,
    open_for: Duration,
    state: Mutex<State>,
}

struct State {
    /// When the next call may be made.
    next: Instant,
    breaker: Breaker,
}

/// A circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    /// Calls pass; so many have failed in a row.
    Closed(u32),
    /// None passes until then.
    Open(Instant),
    /// One call is on its way, to see whether it works again; should nothing be heard of it, another goes then.
    HalfOpen(Instant),
}

/// A call that may be made. What came of it has to be told to [`Gate::tell`].
pub(super) struct Pass<'a>(#[expect(dead_code, reason = "held while the call lasts")] SemaphorePermit<'a>);

/// Who would have to wait longer comes back later, and does not hold what others could use meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many calls may be made at once after a quiet time, or those of so long, where that is more: timers are no finer.
const BURST: u32 = 10;
const BURST_TIME: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn new(settings: &config::PartnerApi) -> Self {
        Self {
            permits: Semaphore::new(settings.max_concurrent),
            spacing: Duration::from_secs_f64(1.0 / settings.rate_per_second),
            failures_to_open: settings.breaker_failures,
            open_for: settings.breaker_open,
            state: Mutex::new(State { next: Instant::now(), breaker: Breaker::Closed(0) }),
        }
    }

    /// Waits until a call may be made.
    pub(super) async fn pass(&self) -> Result<Pass<'_>, PartnerApiError> {
        self.ask_breaker()?;
        let Ok(Ok(permit)) = timeout(PATIENCE, self.permits.acquire()).await else {
            return Err(PartnerApiError { kind: Kind::Busy, retry_after: Some(PATIENCE) });
        };
        let now = Instant::now();
        let due = {
            let mut state = self.state();
            let due = state.next.max(now.checked_sub((self.spacing * BURST).max(BURST_TIME)).unwrap_or(now));
            if due > now + PATIENCE {
                return Err(PartnerApiError { kind: Kind::Busy, retry_after: Some(due - now) });
            }
            state.next = due + self.spacing;
            due
        };
        if due > now {
            sleep_until(due).await;
        }
        Ok(Pass(permit))
    }

    fn ask_breaker(&self) -> Result<(), PartnerApiError> {
        let (now, mut state) = (Instant::now(), self.state());
        match state.breaker {
            Breaker::Closed(_) => Ok(()),
            Breaker::Open(until) | Breaker::HalfOpen(until) if now < until => {
                Err(PartnerApiError { kind: Kind::CircuitOpen, retry_after: Some(until - now) })
            }
            Breaker::Open(_) | Breaker::HalfOpen(_) => {
                state.breaker = Breaker::HalfOpen(now + self.open_for);
                Ok(())
            }
        }
    }

    /// Tells what came of a call.
    pub(super) fn tell(&self, error: Option<&PartnerApiError>) {
        let is_failure = error.is_some_and(|error| {
            matches!(error.kind, Kind::Unreachable | Kind::Timeout | Kind::Server(_) | Kind::TooManyRequests)
        });
        let mut state = self.state();
        state.breaker = match (state.breaker, is_failure) {
            (_, false) => Breaker::Closed(0),
            (Breaker::Closed(failures), true) if failures + 1 < self.failures_to_open => Breaker::Closed(failures + 1),
            // What was on its way when it opened does not keep it open longer.
            (open @ Breaker::Open(_), true) => open,
            (_, true) => {
                tracing::warn!(open_for = ?self.open_for, "the Partner API fails: not called for a while");
                Breaker::Open(Instant::now() + self.open_for)
            }
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rate_per_second: f64) -> Gate {
        let state = Mutex::new(State { next: Instant::now(), breaker: Breaker::Closed(0) });
        let spacing = Duration::from_secs_f64(1.0 / rate_per_second);
        Gate { permits: Semaphore::new(2), spacing, failures_to_open: 3, open_for: Duration::from_secs(10), state }
    }

    const FAILURE: PartnerApiError = PartnerApiError { kind: Kind::Server(500), retry_after: None };

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_one_call_that_works() {
        let gate = gate(1_000.0);
        for error in [Some(&FAILURE), Some(&FAILURE), None, Some(&FAILURE), Some(&FAILURE)] {
            gate.pass().await.map(drop).unwrap();
            gate.tell(error);
        }
        gate.pass().await.map(drop).unwrap();
        gate.tell(Some(&FAILURE));
        assert_eq!(gate.pass().await.map(drop).unwrap_err().kind, Kind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass().await.map(drop).unwrap();
        assert_eq!(gate.pass().await.map(drop).unwrap_err().kind, Kind::CircuitOpen, "one call is enough to see");
        gate.tell(Some(&FAILURE));
        assert_eq!(gate.pass().await.map(drop).unwrap_err().kind, Kind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass().await.map(drop).unwrap();
        gate.tell(None);
        gate.pass().await.map(drop).unwrap();
        gate.pass().await.map(drop).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_bounded() {
        let gate = gate(10.0);
        let begun = Instant::now();
        for _ in 0..30 {
            gate.pass().await.map(drop).unwrap();
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1_500) && took < Duration::from_millis(3_100), "{took:?}");
        let (_first, _second) = (gate.pass().await.unwrap(), gate.pass().await.unwrap());
        assert_eq!(gate.pass().await.map(drop).unwrap_err().kind, Kind::Busy, "two at once, and no more");
    }
}
