//! How much the Partner API is called: so many calls at once, so many a second, and none for a while after too many that
//! failed in a row. While most cases that were never seen before do not exist, these get only a share of it ([`super::share`]).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout},
};

use super::{
    error::{PartnerApiError, PartnerApiErrorKind as Kind},
    known::KnownCases,
    share::{Share, Slots},
};
use crate::config;

/// Lets calls pass, or says when to come back.
pub(super) struct Gate {
    permits: Semaphore,
    /// The time between two calls.
    spacing: Duration,
    failures_to_open: u32,
    open_for: Duration,
    state: Mutex<State>,
    known: Arc<KnownCases>,
    share: Share,
}

struct State {
    /// When the next call may be made.
    next: Instant,
    breaker: Breaker,
    unknown: Slots,
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
#[expect(dead_code, reason = "held while the call lasts")]
pub(super) struct Pass<'a>(SemaphorePermit<'a>, Option<SemaphorePermit<'a>>);

/// Who would have to wait longer comes back later, and does not hold what others could use meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many calls may be made at once after a quiet time, or those of so long, where that is more: timers are no finer.
const BURST: u32 = 10;
const BURST_TIME: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn new(settings: &config::PartnerApi, known: Arc<KnownCases>) -> Self {
        let share = Share::new(settings);
        Self {
            permits: Semaphore::new(settings.max_concurrent),
            spacing: Duration::from_secs_f64(1.0 / settings.rate_per_second),
            failures_to_open: settings.breaker_failures,
            open_for: settings.breaker_open,
            state: Mutex::new(State { next: Instant::now(), breaker: Breaker::Closed(0), unknown: share.slots() }),
            known,
            share,
        }
    }

    /// Waits until a call may be made, for that case where it is for one.
    pub(super) async fn pass(&self, case: Option<&str>) -> Result<Pass<'_>, PartnerApiError> {
        let mut of_share = self.pass_share(case)?;
        self.ask_breaker()?;
        let Ok(Ok(permit)) = timeout(PATIENCE, self.permits.acquire()).await else {
            return Err(PartnerApiError { kind: Kind::Busy, retry_after: Some(PATIENCE) });
        };
        if of_share.is_none() {
            // What has waited since before a flood was noticed is a part of it, too.
            of_share = self.pass_share(case)?;
        }
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
        Ok(Pass(permit, of_share))
    }

    /// A call of the share, where the case gets no more than that.
    fn pass_share(&self, case: Option<&str>) -> Result<Option<SemaphorePermit<'_>>, PartnerApiError> {
        if !case.is_some_and(|case| self.known.comes_last(case)) {
            return Ok(None);
        }
        let passed = self.share.pass(&mut self.state().unknown);
        passed.map(Some).map_err(|after| PartnerApiError { kind: Kind::HeldBack, retry_after: Some(after) })
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
    use std::io::Write as _;

    use super::*;

    fn gate(rate_per_second: f64) -> Gate {
        let settings = config::PartnerApi {
            max_concurrent: 2,
            rate_per_second,
            unknown_share: 0.1,
            breaker_failures: 3,
            breaker_open: Duration::from_secs(10),
            ..settings()
        };
        Gate::new(&settings, Arc::default())
    }

    fn settings() -> config::PartnerApi {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"\n").unwrap();
        config::Config::load(Some(file.path())).unwrap().partner_api
    }

    const FAILURE: PartnerApiError = PartnerApiError { kind: Kind::Server(500), retry_after: None };

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_one_call_that_works() {
        let gate = gate(1_000.0);
        for error in [Some(&FAILURE), Some(&FAILURE), None, Some(&FAILURE), Some(&FAILURE)] {
            gate.pass(None).await.map(drop).unwrap();
            gate.tell(error);
        }
        gate.pass(None).await.map(drop).unwrap();
        gate.tell(Some(&FAILURE));
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, Kind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass(None).await.map(drop).unwrap();
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, Kind::CircuitOpen, "one call is enough to see");
        gate.tell(Some(&FAILURE));
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, Kind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass(None).await.map(drop).unwrap();
        gate.tell(None);
        gate.pass(None).await.map(drop).unwrap();
        gate.pass(None).await.map(drop).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spaced_and_bounded() {
        let gate = gate(10.0);
        let begun = Instant::now();
        for _ in 0..30 {
            gate.pass(None).await.map(drop).unwrap();
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1_500) && took < Duration::from_millis(3_100), "{took:?}");
        let (_first, _second) = (gate.pass(None).await.unwrap(), gate.pass(None).await.unwrap());
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, Kind::Busy, "two at once, and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_flood_only_cases_that_were_never_seen_are_held_back() {
        let gate = gate(100.0);
        gate.known.exists("known");
        gate.pass(Some("new")).await.map(drop).unwrap();
        for number in 0..40 {
            gate.known.does_not_exist(&number.to_string());
        }
        gate.pass(Some("new")).await.map(drop).unwrap();
        for _ in 0..50 {
            let error = gate.pass(Some("new")).await.map(drop).unwrap_err();
            assert!(error.kind == Kind::HeldBack && error.was_not_called() && error.retry_after.is_some());
        }
        let begun = Instant::now();
        for _ in 0..50 {
            gate.pass(Some("known")).await.map(drop).unwrap();
            gate.pass(None).await.map(drop).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_millis(1_100), "{:?}", begun.elapsed());
    }
}
