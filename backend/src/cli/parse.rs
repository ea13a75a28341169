//! Parsers for arguments.

use crate::events::Subject;

/// Parses an event key or the identifier of a case.
pub(super) fn subject(text: &str) -> Result<Subject, &'static str> {
    Subject::parse(text).ok_or("must be an event key, such as `case.extraction.completed:CASE:TIME`, or a case")
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
    fn rates_are_finite_and_positive() {
        for (text, expected) in [("0.001", Some(0.001)), ("50", Some(50.0)), ("1e5", Some(100_000.0))] {
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
        for text in ["", "fast", "0", "-1", "inf", "NaN", "100001"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
