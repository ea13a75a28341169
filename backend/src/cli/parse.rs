//! Parsers for arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::{Feature, Timestamp};

/// Parses the name of a feature.
pub(super) fn feature(name: &str) -> Result<Feature, String> {
    Feature::parse(name).ok_or_else(|| "must be classification, extraction, forensics or translation".to_owned())
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
