//! What became of an event, in words. The same for the command line and for pages.

use std::time::SystemTime;

use super::{Event, Happened, State, Story, WaitsFor};
use crate::{
    inbox::{LastError, Redelivered},
    time::rfc3339,
};

impl Happened {
    /// Returns what happened, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Received { backfilled: false } => "received".to_owned(),
            Self::Received { backfilled: true } => "backfilled, because it never arrived".to_owned(),
            Self::Failed(failure) => {
                let error = format!("{}: {}", failure.code, failure.detail);
                let took = failure.took.as_millis();
                match failure.count {
                    1 => format!("an attempt failed after {took} ms: {error}"),
                    count => {
                        format!(
                            "{count} attempts failed, the last one at {} after {took} ms: {error}",
                            rfc3339(failure.last)
                        )
                    }
                }
            }
            Self::Completed { outcome, attempts, took, error } => {
                let took = took.as_millis();
                let done =
                    format!("completed at attempt {attempts}, which took {took} ms; delivered: {}", outcome.as_str());
                done + &error
                    .as_ref()
                    .map(|error| format!("; the last failed attempt: {}", cause(Some(error))))
                    .unwrap_or_default()
            }
            Self::DeadLettered { attempts, error } => {
                format!("became a dead letter at attempt {attempts}: {}", cause(error.as_ref()))
            }
            Self::Replayed => "replayed by an operator".to_owned(),
            Self::Revived => "arrived again, which returned it to the inbox".to_owned(),
            Self::Unknown => "something that only a newer version knows".to_owned(),
        }
    }
}

impl Story {
    /// Returns why the event is in its state, if there is more to say.
    pub fn reason(&self, now: SystemTime) -> Option<String> {
        let Self { event: Event { state, name, next_attempt_at, .. }, waits_for, .. } = self;
        if *state == State::Quarantined {
            return Some(format!("this version does not know {name}"));
        }
        Some(match waits_for.as_ref()? {
            WaitsFor::Turn => "it is its turn, or an attempt is in progress".to_owned(),
            WaitsFor::Retry => match (*next_attempt_at)?.duration_since(now) {
                Ok(left) => {
                    format!("the next attempt is due {} (in {} s)", rfc3339(now + left), left.as_secs())
                }
                Err(past) => format!("the next attempt has been due since {}", rfc3339(now - past.duration())),
            },
            WaitsFor::EarlierEvent(key) => format!("an earlier event of its lane has to be handled first: {key}"),
            WaitsFor::Resume => "its feature is paused".to_owned(),
            WaitsFor::Backend => "no backend works on its partition".to_owned(),
        })
    }
}

impl Redelivered {
    /// Returns how often the event was delivered again, in words.
    pub fn words(&self) -> String {
        let Self { same_body, other_body, last_at } = self;
        let with = |count: &u64, body: &str| (*count > 0).then(|| format!("{} with {body} body", times(*count)));
        let counts: Vec<_> = [with(same_body, "the same"), with(other_body, "another")].into_iter().flatten().collect();
        format!("delivered again {}, last at {}", counts.join(" and "), rfc3339(*last_at))
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn cause(error: Option<&LastError>) -> String {
    error.map_or("for an unknown reason".to_owned(), |LastError { code, detail }| format!("{code}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_millis;

    #[test]
    fn redeliveries_are_counted_by_body() {
        for (same_body, other_body, expected) in [
            (1, 0, "once with the same body"),
            (0, 2, "2 times with another body"),
            (3, 1, "3 times with the same body and once with another body"),
        ] {
            let said = Redelivered { same_body, other_body, last_at: from_millis(0) }.words();
            assert_eq!(said, format!("delivered again {expected}, last at 1970-01-01T00:00:00Z"));
        }
    }
}
