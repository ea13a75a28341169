//! Numbers as people read them.

use std::time::Duration;

/// Returns a number of bytes, such as `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|&(size, _)| bytes >= size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} bytes"),
    }
}

/// Returns a duration, such as `0.3 ms` or `2 h 5 min`.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{:.1} ms", duration.as_secs_f64() * 1_000.0),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Returns a number with its digits in groups of three: `1,234,567`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let places = digits.char_indices();
    let grouped = places.flat_map(|(place, digit)| {
        let comma = (place > 0 && (digits.len() - place).is_multiple_of(3)).then_some(',');
        comma.into_iter().chain([digit])
    });
    grouped.collect()
}

/// Returns a number with its noun: `1 event`, `2,000 events`.
pub(crate) fn count(events: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(events), if events == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_that_fit_them() {
        for (number, text) in [(0, "0 bytes"), (1_023, "1023 bytes"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(number), text);
        }
        for (millis, text) in [
            (0, "0.0 ms"),
            (999, "999.0 ms"),
            (59_999, "59 s"),
            (3_599_000, "59 min"),
            (7_500_000, "2 h 5 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!([0, 1, 2].map(|number| count(number, "event")), ["0 events", "1 event", "2 events"]);
        for (value, text) in [(999, "999"), (1_000, "1,000"), (65_536, "65,536"), (123_456, "123,456")] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
    }
}
