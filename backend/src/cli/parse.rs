//! Parsers for arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::{CaseId, Feature, Timestamp};

use crate::events::{State, Subject};

/// Parses the name of a feature.
pub(super) fn feature(name: &str) -> Result<Feature, String> {
    Feature::parse(name).ok_or_else(|| "must be classification, extraction, forensics or translation".to_owned())
}

/// Parses the identifier of a case.
pub(super) fn case(text: &str) -> Result<CaseId<'static>, &'static str> {
    CaseId::new(text.to_owned()).ok_or("must be 1 to 128 characters of A-Z a-z 0-9 _ -")
}

/// Parses an event key or the identifier of a case.
pub(super) fn subject(text: &str) -> Result<Subject, &'static str> {
    Subject::parse(text).ok_or("must be an event key, such as `case.extraction.completed:CASE:TIME`, or a case")
}

/// Parses the name of a state.
pub(super) fn state(name: &str) -> Result<State, &'static str> {
    let state = State::LISTED.into_iter().find(|state| state.as_str() == name);
    state.ok_or("must be pending, retrying, completed, dead or quarantined")
}

/// Parses an RFC 3339 time.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let instant = Timestamp::parse(text).ok_or("must be a time such as 2025-06-22T10:30:00Z")?;
    let millis = u64::try_from(instant.unix_millis()).map_err(|_| "must not be before 1970")?;
    Ok(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Parses a number per second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "must be a number")?;
    if (0.001..=100_000.0).contains(&rate) { Ok(rate) } else { Err("must be 0.001 to 100000".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_not_before_1970() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(UNIX_EPOCH + Duration::from_secs(1)));
        for text in ["", "2025-06-22", "2025-06-22 10:30:00Z", "1969-12-31T23:59:59Z"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_finite_and_positive() {
        for (text, expected) in [("0.001", Some(0.001)), ("50", Some(50.0)), ("1e5", Some(100_000.0))] {
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
        for text in ["", "fast", "0", "-1", "inf", "NaN", "100001"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
