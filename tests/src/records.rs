//! The records of the history, as Redis holds them.

use redis::streams::StreamId;

/// Returns the records of an entry of the history, each with its error, which is empty if no attempt
/// has failed.
pub fn of(entry: &StreamId) -> Vec<(String, String)> {
    let text = |field: &str| entry.get::<String>(field).unwrap_or_default();
    if !entry.contains_key("events") {
        return vec![(text("event"), text("error"))];
    }
    let record = |line: &str| {
        let (event, error) = line.split_once('\t').unwrap_or((line, ""));
        (event.to_owned(), error.to_owned())
    };
    text("events").lines().map(record).collect()
}
