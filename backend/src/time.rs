//! Conversion between times, the milliseconds in which Redis and JSON hold them, and text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::Timestamp;
use serde::{Serialize as _, Serializer};

/// Returns a time in milliseconds since 1970. Earlier times count as 1970.
pub(crate) fn to_millis(time: SystemTime) -> u64 {
    duration_millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns the time that is `millis` milliseconds after the beginning of 1970.
pub(crate) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// Returns a time as RFC 3339 writes it, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let millis = i64::try_from(to_millis(time)).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(millis).to_string()
}

/// Reads a time that RFC 3339 permits.
pub(crate) fn parse_rfc3339(text: &str) -> Result<SystemTime, &'static str> {
    let instant = Timestamp::parse(text).ok_or("must be a time such as 2025-06-22T10:30:00Z")?;
    u64::try_from(instant.unix_millis()).map(from_millis).map_err(|_| "must not be before 1970")
}

/// Returns a duration in whole milliseconds, `u64::MAX` if it is longer than that.
pub(crate) fn duration_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a time, or an optional one, as milliseconds since 1970.
pub(crate) fn as_millis<S: Serializer>(
    time: &(impl Copy + Into<Option<SystemTime>>),
    to: S,
) -> Result<S::Ok, S::Error> {
    (*time).into().map(to_millis).serialize(to)
}

/// Writes a duration in whole milliseconds.
pub(crate) fn in_millis<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    duration_millis(*duration).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_number_is_a_valid_time() {
        for millis in [0, 1, 1_750_588_200_000, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert_eq!(to_millis(from_millis(millis)), millis);
            assert!(from_millis(millis).duration_since(UNIX_EPOCH).is_ok());
        }
        assert_eq!(to_millis(UNIX_EPOCH - Duration::from_secs(1)), 0, "a time before 1970 counts as 1970");
    }

    #[test]
    fn times_are_rfc_3339_and_not_before_1970() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:01Z"), Ok(from_millis(1_000)));
        for text in ["", "2025-06-22", "2025-06-22 10:30:00Z", "1969-12-31T23:59:59Z"] {
            assert!(parse_rfc3339(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_rounded_down_and_saturates() {
        for (duration, millis) in [
            (Duration::ZERO, 0),
            (Duration::from_micros(1_999), 1),
            (Duration::from_secs(2), 2_000),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(duration_millis(duration), millis, "{duration:?}");
        }
    }
}
