//! The failed attempts of an event that is still in the inbox, or that is a dead letter.

use std::{
    fmt::{self, Write as _},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::time::{as_millis, duration_millis, from_millis, in_millis, to_millis};

/// The failed attempts of an event, oldest first. Consecutive attempts that failed in the same way
/// are one [`Failure`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Failures(Vec<Failure>);

/// Consecutive attempts that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The error's code.
    pub code: String,
    /// The description of the error, without personal data.
    pub detail: String,
    /// When the first of the attempts failed.
    #[serde(rename = "firstAtMs", serialize_with = "as_millis")]
    pub first: SystemTime,
    /// When the last of them failed.
    #[serde(rename = "lastAtMs", serialize_with = "as_millis")]
    pub last: SystemTime,
    /// How many there were, including those that were deferred.
    pub count: u32,
    /// How long the last of them took.
    #[serde(rename = "tookMs", serialize_with = "in_millis")]
    pub took: Duration,
}

/// How many failures an event keeps: the first one, and the latest of the others. In an outage of
/// the application, every waiting event has failures, so they must not take much more memory than
/// the event itself.
const KEPT: usize = 4;
/// The maximum length of a description, in bytes.
const LONGEST_DETAIL: usize = 120;

impl Failures {
    /// Returns the failures, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Failure> {
        self.0.iter()
    }

    /// Returns the latest failure.
    pub fn last(&self) -> Option<&Failure> {
        self.0.last()
    }

    /// Adds an attempt that failed `now`, after it had taken `took`.
    #[must_use]
    pub fn and(&self, code: &str, detail: &str, now: SystemTime, took: Duration) -> Self {
        let mut failures = self.0.clone();
        let detail = one_line(detail);
        match failures.last_mut() {
            Some(last) if last.code == code && last.detail == detail => {
                last.last = now;
                last.count = last.count.saturating_add(1);
                last.took = took;
            }
            _ => failures.push(Failure { code: code.to_owned(), detail, first: now, last: now, count: 1, took }),
        }
        if failures.len() > KEPT {
            failures.remove(1);
        }
        Self(failures)
    }

    /// Adds an attempt that was deferred. If an earlier attempt has failed in another way, this stays
    /// the reason why the event waits.
    #[must_use]
    pub fn and_deferred(&self, code: &str, detail: &str, now: SystemTime, took: Duration) -> Self {
        match self.last() {
            Some(last) if last.code != code => self.clone(),
            _ => self.and(code, detail, now, took),
        }
    }

    /// Reads what [`Display`](fmt::Display) has written. Skips what is damaged.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Failure::parse).collect())
    }
}

impl Failure {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (first, last, count, took) = (number()?, number()?, number()?, number()?);
        Some(Self {
            code: words.next()?.to_owned(),
            detail: words.next().unwrap_or_default().to_owned(),
            first: from_millis(first),
            last: from_millis(last),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            took: Duration::from_millis(took),
        })
    }
}

/// One line for each failure: when the first attempt and the last attempt failed, how many there
/// were, how long the last one took, the code and the detail. Times and durations are in
/// milliseconds, times since 1970.
impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, failure) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char('\n')?;
            }
            let Failure { code, detail, first, last, count, took } = failure;
            let (first, last, took) = (to_millis(*first), to_millis(*last), duration_millis(*took));
            write!(f, "{first} {last} {count} {took} {code} {detail}")?;
        }
        Ok(())
    }
}

/// Returns a description without line breaks and surrounding white space, and not longer than
/// allowed.
pub(super) fn one_line(detail: &str) -> String {
    let mut line = detail.replace(['\n', '\r'], " ");
    if line.len() > LONGEST_DETAIL {
        let end = (0..=LONGEST_DETAIL).rev().find(|&end| line.is_char_boundary(end)).unwrap_or_default();
        line.truncate(end);
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        from_millis(1_750_588_200_000 + 1_000 * seconds)
    }

    const TOOK: Duration = Duration::from_millis(12);

    #[test]
    fn attempts_that_fail_in_the_same_way_are_one_failure() {
        let failures = Failures::default()
            .and("not_ready", "the stage is not finished", at(0), TOOK)
            .and("not_ready", "the stage is not finished", at(5), TOOK * 2)
            .and("sink_status", "the application answered 503", at(9), TOOK);
        let found: Vec<_> =
            failures.iter().map(|failure| (failure.code.as_str(), failure.count, failure.took)).collect();
        assert_eq!(found, [("not_ready", 2, TOOK * 2), ("sink_status", 1, TOOK)]);
        let first = &failures.0[0];
        assert_eq!((first.first, first.last), (at(0), at(5)));
    }

    #[test]
    fn an_event_keeps_its_first_failure_and_the_latest_ones() {
        let failures = (0..20).fold(Failures::default(), |failures, attempt| {
            failures.and("sink_status", &format!("the application answered {attempt}"), at(attempt), TOOK)
        });
        assert_eq!(failures.iter().count(), KEPT);
        assert_eq!(failures.0[0].detail, "the application answered 0");
        assert_eq!(failures.0[1].detail, "the application answered 17");
        assert_eq!(failures.last().unwrap().detail, "the application answered 19");
    }

    #[test]
    fn an_attempt_that_was_deferred_does_not_hide_why_the_event_waits() {
        let (busy, open) = (("api_busy", "too many calls"), ("api_circuit_open", "the Partner API is down"));
        let deferred = Failures::default().and_deferred(busy.0, busy.1, at(0), TOOK);
        let deferred = deferred.and_deferred(busy.0, busy.1, at(1), TOOK);
        assert_eq!((deferred.0.len(), deferred.0[0].count), (1, 2), "no attempt has failed, so this is the reason");
        let failed = deferred.and("api_unreachable", "no answer", at(2), TOOK);
        assert_eq!(failed.and_deferred(open.0, open.1, at(3), TOOK), failed);
    }

    #[test]
    fn a_failure_that_was_stored_is_recognized_again() {
        for detail in ["", " ", "x\n", " x ", "two\r\nlines", &format!("{} y", "x".repeat(LONGEST_DETAIL - 1))] {
            let stored = Failures::default().and("code", detail, at(0), TOOK).to_string();
            let again = Failures::parse(stored.trim_end()).and("code", detail, at(1), TOOK);
            assert_eq!((again.0.len(), again.0[0].count), (1, 2), "{detail:?}");
        }
    }

    #[test]
    fn failures_are_read_as_they_were_written() {
        let failures = Failures::default().and("panic", "", at(0), TOOK).and("sink_status", "two\nlines", at(1), TOOK);
        assert_eq!(Failures::parse(&failures.to_string()), failures);
        assert_eq!(failures.last().unwrap().detail, "two lines");
    }

    #[test]
    fn what_is_damaged_is_skipped() {
        for (text, count) in [("", 0), ("more", 0), ("1 2 3 4", 0), ("1 2 3 4 code", 1), ("x\n1 2 3 4 code a b", 1)] {
            assert_eq!(Failures::parse(text).iter().count(), count, "{text:?}");
        }
        assert_eq!(Failures::parse("1 2 3 4 code a b").last().unwrap().detail, "a b");
    }

    #[test]
    fn a_long_description_is_cut_between_characters() {
        let failures = Failures::default().and("code", &"é".repeat(400), at(0), TOOK);
        assert_eq!(failures.last().unwrap().detail.len(), LONGEST_DETAIL);
    }
}
