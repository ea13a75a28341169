//! The limits on calls of the Partner API: concurrent calls, calls per second, and a circuit
//! breaker.
//!
//! During a flood of events of cases that do not exist, new cases get only a share of the calls
//! ([`super::share`]).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout},
};

use super::{
    error::{PartnerApiError, PartnerApiErrorKind},
    known::KnownCases,
    share::{Schedule, Share},
};
use crate::config;

/// Admits calls one by one, or says when to ask again.
pub(super) struct Gate {
    permits: Semaphore,
    /// The time between two calls.
    spacing: Duration,
    /// How many calls in a row have to fail before the breaker opens.
    failures_to_open: u32,
    open_for: Duration,
    state: Mutex<State>,
    known: Arc<KnownCases>,
    share: Share,
}

struct State {
    /// When the next call may be made.
    next_call: Instant,
    breaker: Breaker,
    share: Schedule,
}

/// A circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    /// Calls are made. The number says how many calls in a row have failed.
    Closed(u32),
    /// No call is made until this time.
    Open(Instant),
    /// One trial call is under way. If its outcome is not known by this time, another one is made.
    HalfOpen(Instant),
}

/// The permission to make one call. Report how the call ended with [`Gate::report`].
#[expect(dead_code, reason = "held for as long as the call takes")]
pub(super) struct Pass<'a> {
    permit: SemaphorePermit<'a>,
    /// Also held if the call is one of the share for new cases.
    of_share: Option<SemaphorePermit<'a>>,
}

/// Longest wait for a pass. An event that would have to wait longer is handled again later, and
/// does not hold what other events could use meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Number of calls that may follow each other at once after a quiet time.
const BURST: u32 = 10;
/// The burst may also be as many calls as the rate allows in this time, since timers are not more
/// precise.
const BURST_TIME: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn new(settings: &config::PartnerApi, known: Arc<KnownCases>) -> Self {
        let share = Share::new(settings);
        let state = State { next_call: Instant::now(), breaker: Breaker::Closed(0), share: share.schedule() };
        Self {
            permits: Semaphore::new(settings.max_concurrent),
            spacing: Duration::from_secs_f64(1.0 / settings.rate_per_second),
            failures_to_open: settings.breaker_failures,
            open_for: settings.breaker_open,
            state: Mutex::new(state),
            known,
            share,
        }
    }

    /// Waits until a call may be made; for a case, if the call is about one.
    ///
    /// # Errors
    /// Returns one of the errors that [`PartnerApiError::was_not_called`] names if the wait would
    /// be too long.
    pub(super) async fn pass(&self, case: Option<&str>) -> Result<Pass<'_>, PartnerApiError> {
        let mut of_share = self.pass_share(case)?;
        self.check_breaker()?;
        let Ok(Ok(permit)) = timeout(LONGEST_WAIT, self.permits.acquire()).await else {
            return Err(not_called(PartnerApiErrorKind::Busy, LONGEST_WAIT));
        };
        if of_share.is_none() {
            // A flood may have been noticed during the wait, and this call may be a part of it.
            of_share = self.pass_share(case)?;
        }
        let now = Instant::now();
        let due = self.take_slot(now)?;
        if due > now {
            sleep_until(due).await;
        }
        Ok(Pass { permit, of_share })
    }

    /// Takes the next slot of the rate limit, and returns when it begins.
    fn take_slot(&self, now: Instant) -> Result<Instant, PartnerApiError> {
        let burst = (self.spacing * BURST).max(BURST_TIME);
        let mut state = self.state();
        let due = state.next_call.max(now.checked_sub(burst).unwrap_or(now));
        if due > now + LONGEST_WAIT {
            return Err(not_called(PartnerApiErrorKind::Busy, due - now));
        }
        state.next_call = due + self.spacing;
        Ok(due)
    }

    /// Takes a call of the share if the case gets no more than that.
    fn pass_share(&self, case: Option<&str>) -> Result<Option<SemaphorePermit<'_>>, PartnerApiError> {
        if !case.is_some_and(|case| self.known.comes_last(case)) {
            return Ok(None);
        }
        match self.share.acquire(&mut self.state().share) {
            Ok(permit) => Ok(Some(permit)),
            Err(wait) => Err(not_called(PartnerApiErrorKind::HeldBack, wait)),
        }
    }

    /// Checks that the breaker is closed, or that a trial call is due.
    fn check_breaker(&self) -> Result<(), PartnerApiError> {
        let now = Instant::now();
        let mut state = self.state();
        match state.breaker {
            Breaker::Closed(_) => Ok(()),
            Breaker::Open(until) | Breaker::HalfOpen(until) if now < until => {
                Err(not_called(PartnerApiErrorKind::CircuitOpen, until - now))
            }
            Breaker::Open(_) | Breaker::HalfOpen(_) => {
                state.breaker = Breaker::HalfOpen(now + self.open_for);
                Ok(())
            }
        }
    }

    /// Returns whether the breaker is open, or waits for the outcome of a trial call.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state().breaker, Breaker::Closed(_))
    }

    /// Reports how a call ended, which opens or closes the breaker.
    pub(super) fn report(&self, error: Option<&PartnerApiError>) {
        let mut state = self.state();
        if !error.is_some_and(|error| is_outage(error.kind)) {
            state.breaker = Breaker::Closed(0);
            return;
        }
        state.breaker = match state.breaker {
            Breaker::Closed(failures) if failures + 1 < self.failures_to_open => Breaker::Closed(failures + 1),
            // A call that was under way when the breaker opened does not keep it open longer.
            open @ Breaker::Open(_) => open,
            Breaker::Closed(_) | Breaker::HalfOpen(_) => {
                tracing::warn!(open_for = ?self.open_for, "calls of the Partner API keep failing: no calls for a while");
                Breaker::Open(Instant::now() + self.open_for)
            }
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error counts towards opening the breaker.
fn is_outage(kind: PartnerApiErrorKind) -> bool {
    matches!(
        kind,
        PartnerApiErrorKind::Unreachable
            | PartnerApiErrorKind::Timeout
            | PartnerApiErrorKind::Server(_)
            | PartnerApiErrorKind::TooManyRequests
    )
}

fn not_called(kind: PartnerApiErrorKind, retry_after: Duration) -> PartnerApiError {
    PartnerApiError { kind, retry_after: Some(retry_after) }
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

    const FAILURE: PartnerApiError = PartnerApiError { kind: PartnerApiErrorKind::Server(500), retry_after: None };

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let gate = gate(1_000.0);
        for error in [Some(&FAILURE), Some(&FAILURE), None, Some(&FAILURE), Some(&FAILURE)] {
            gate.pass(None).await.map(drop).unwrap();
            gate.report(error);
        }
        gate.pass(None).await.map(drop).unwrap();
        gate.report(Some(&FAILURE));
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, PartnerApiErrorKind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass(None).await.map(drop).unwrap();
        assert_eq!(
            gate.pass(None).await.map(drop).unwrap_err().kind,
            PartnerApiErrorKind::CircuitOpen,
            "only one trial call"
        );
        gate.report(Some(&FAILURE));
        assert_eq!(gate.pass(None).await.map(drop).unwrap_err().kind, PartnerApiErrorKind::CircuitOpen);
        tokio::time::advance(Duration::from_secs(11)).await;
        gate.pass(None).await.map(drop).unwrap();
        assert!(gate.is_open());
        gate.report(None);
        assert!(!gate.is_open());
        gate.pass(None).await.map(drop).unwrap();
        gate.pass(None).await.map(drop).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_to_the_rate_and_the_number_of_concurrent_calls() {
        let gate = gate(10.0);
        let started = Instant::now();
        for _ in 0..30 {
            gate.pass(None).await.map(drop).unwrap();
        }
        let took = started.elapsed();
        assert!(took > Duration::from_millis(1_500) && took < Duration::from_millis(3_100), "{took:?}");
        let _first = gate.pass(None).await.unwrap();
        let _second = gate.pass(None).await.unwrap();
        assert_eq!(
            gate.pass(None).await.map(drop).unwrap_err().kind,
            PartnerApiErrorKind::Busy,
            "no more than two at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_flood_only_new_cases_are_held_back() {
        let gate = gate(100.0);
        gate.known.exists("known");
        gate.pass(Some("new")).await.map(drop).unwrap();
        for number in 0..40 {
            gate.known.does_not_exist(&number.to_string());
        }
        gate.pass(Some("new")).await.map(drop).unwrap();
        for _ in 0..50 {
            let error = gate.pass(Some("new")).await.map(drop).unwrap_err();
            assert!(
                error.kind == PartnerApiErrorKind::HeldBack && error.was_not_called() && error.retry_after.is_some()
            );
        }
        let started = Instant::now();
        for _ in 0..50 {
            gate.pass(Some("known")).await.map(drop).unwrap();
            gate.pass(None).await.map(drop).unwrap();
        }
        assert!(started.elapsed() < Duration::from_millis(1_100), "{:?}", started.elapsed());
    }
}
