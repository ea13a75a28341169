//! RFC 3339 date-times as instants.
//!
//! The filter reads one in every request, so this parser needs no allocation and no table. It is
//! also stricter than general libraries, which accept a space instead of the `T`.

use core::fmt;

/// An instant in UTC with nanoseconds, between the years 0000 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the first and the last second that RFC 3339 can
/// write in UTC.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

impl Timestamp {
    /// Returns the instant `seconds` after 1970-01-01T00:00:00Z.
    pub const fn from_unix(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Returns the seconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Returns the instant `millis` milliseconds after 1970-01-01T00:00:00Z.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self { seconds: millis.div_euclid(1_000), nanoseconds: (millis.rem_euclid(1_000) * 1_000_000) as u32 }
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_millis(self) -> i64 {
        self.seconds * 1_000 + (self.nanoseconds / 1_000_000) as i64
    }

    /// Reads an RFC 3339 date-time: `2025-06-22T10:30:00Z`, with an optional fraction and any
    /// offset.
    ///
    /// Ignores digits of a fraction after the ninth. Reads a leap second as the following second.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Digits(text.as_bytes());
        let year = rest.number(4)?;
        rest.byte(b"-")?;
        let month = rest.number(2)?;
        rest.byte(b"-")?;
        let day = rest.number(2)?;
        rest.byte(b"Tt")?;
        let hour = rest.number(2)?;
        rest.byte(b":")?;
        let minute = rest.number(2)?;
        rest.byte(b":")?;
        let second = rest.number(2)?;
        let nanoseconds = rest.fraction()?;
        let offset = rest.offset()?;
        if !rest.0.is_empty()
            || !(1..=12).contains(&month)
            || !(1..=days_in_month(year, month)).contains(&day)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        let seconds =
            days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - offset;
        (FIRST..=LAST).contains(&seconds).then_some(Self { seconds, nanoseconds })
    }
}

/// Writes the instant in UTC, with the fraction only as long as necessary:
/// `2025-06-22T10:30:00.25Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let hour = second_of_day / 3_600;
        let minute = second_of_day / 60 % 60;
        let second = second_of_day % 60;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds > 0 {
            let mut fraction = self.nanoseconds;
            let mut width = 9;
            while fraction.is_multiple_of(10) {
                fraction /= 10;
                width -= 1;
            }
            write!(f, ".{fraction:0width$}")?;
        }
        f.write_str("Z")
    }
}

/// The rest of the text, read from the front.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn byte(&mut self, allowed: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        allowed.contains(&first).then_some(first)
    }

    fn number(&mut self, width: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(width)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    fn fraction(&mut self) -> Option<u32> {
        if self.0.first() != Some(&b'.') {
            return Some(0);
        }
        let digits = &self.0[1..];
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.0 = &digits[length..];
        let nanoseconds = (0..9).fold(0, |number, place| {
            let digit = if place < length { digits[place] - b'0' } else { 0 };
            number * 10 + u32::from(digit)
        });
        (length > 0).then_some(nanoseconds)
    }

    fn offset(&mut self) -> Option<i64> {
        let sign = match self.byte(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2)?;
        self.byte(b":")?;
        let minutes = self.number(2)?;
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

// Both conversions count years from March, so that a leap day is the last day of a year, and in
// eras of 400 years (146,097 days). From 0000-03-01 to 1970-01-01 there are 719,468 days.

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_notations_of_an_instant_are_equal() {
        let noon = Timestamp::parse("2025-06-22T10:30:00Z").unwrap();
        assert_eq!(noon.unix_seconds(), 1_750_588_200);
        for same in [
            "2025-06-22t10:30:00z",
            "2025-06-22T12:30:00+02:00",
            "2025-06-21T22:45:00-11:45",
            "2025-06-22T10:30:00.000Z",
            "2025-06-22T10:29:60Z",
            "2025-06-22T10:30:00.0000000009Z",
        ] {
            assert_eq!(Timestamp::parse(same), Some(noon), "{same}");
        }
    }

    #[test]
    fn text_that_is_not_rfc_3339_is_rejected() {
        for text in [
            "",
            "2025-06-22",
            "2025-06-22 10:30:00Z",
            "2025-06-22T10:30:00",
            "2025-06-22T10:30Z",
            "2025-06-22T10:30:00.Z",
            "2025-06-22T10:30:00+0200",
            "2025-06-22T10:30:00+24:00",
            "2025-06-22T24:00:00Z",
            "2025-06-22T10:60:00Z",
            "2025-06-22T10:30:61Z",
            "2025-02-29T10:30:00Z",
            "2100-02-29T10:30:00Z",
            "2025-13-01T10:30:00Z",
            "2025-00-01T10:30:00Z",
            "2025-06-31T10:30:00Z",
            "2025-06-00T10:30:00Z",
            "+025-06-22T10:30:00Z",
            "2025-06-22T10:30:00Z ",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1750588200",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_instant_is_written_in_utc_and_reads_back() {
        for (text, written) in [
            ("2025-06-22T12:30:00+02:00", "2025-06-22T10:30:00Z"),
            ("2024-02-29T23:59:59.120Z", "2024-02-29T23:59:59.12Z"),
            ("1969-12-31T23:59:59.000000001Z", "1969-12-31T23:59:59.000000001Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            let instant = Timestamp::parse(text).unwrap();
            assert_eq!(instant.to_string(), written);
            assert_eq!(Timestamp::parse(written), Some(instant));
        }
    }

    #[test]
    fn every_day_of_four_centuries_converts_both_ways() {
        for day in days_from_civil(1900, 1, 1)..days_from_civil(2300, 1, 1) {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
            assert!((1..=days_in_month(year, month)).contains(&date));
        }
    }
}
