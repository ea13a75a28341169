//! A limit on how often the same thing is logged.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Allows one line per interval, and counts the lines that it suppresses.
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged_at: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// Returns a limit of one line per `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// Returns the number of lines suppressed since the last line, or `None` if this one is
    /// suppressed, too.
    pub fn allow(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.logged_at.is_some_and(|logged_at| logged_at.elapsed() < self.interval) {
            state.suppressed += 1;
            return None;
        }
        state.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_is_allowed_per_interval_and_the_others_are_counted() {
        let limit = LogLimit::every(Duration::from_secs(5));
        assert_eq!([limit.allow(), limit.allow(), limit.allow()], [Some(0), None, None]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!([limit.allow(), limit.allow()], [Some(2), None]);
    }
}
