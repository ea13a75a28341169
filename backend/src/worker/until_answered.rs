//! Repeats a Redis command until Redis answers it.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

use crate::inbox::{LeaseError, LeaseLost};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Repeats a command until Redis answers it, and returns the answer.
///
/// The number of repetitions is not limited: if this gave up, work that is already done would have
/// to be repeated. The lease is the limit: when it expires, the partition's tasks are dropped, and
/// this future with them.
///
/// # Errors
/// Returns [`LeaseLost`] if the command reports that the lease is lost.
pub(super) async fn until_answered<T, E, F>(mut command: impl FnMut() -> F) -> Result<T, LeaseLost>
where
    E: Into<LeaseError>,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match command().await.map_err(Into::into) {
            Ok(answer) => return Ok(answer),
            Err(LeaseError::Lost(lost)) => return Err(lost),
            Err(LeaseError::Inbox(error)) => {
                tracing::warn!(reason = error.reason(), "a Redis command failed and will be repeated: {error}");
            }
        }
        sleep(pause.mul_f64(fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::inbox::InboxError;

    #[tokio::test(start_paused = true)]
    async fn a_command_is_repeated_until_it_is_answered() {
        let calls = Cell::new(0);
        let answer = until_answered(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 30 { Err(InboxError::Timeout(Duration::from_secs(3))) } else { Ok("answer") }
        });
        assert_eq!(answer.await, Ok("answer"));
        assert_eq!(calls.get(), 30);
    }

    #[tokio::test]
    async fn a_lost_lease_ends_the_repetition() {
        assert_eq!(until_answered(async || Err::<(), _>(LeaseLost)).await, Err(LeaseLost));
    }
}
