//! The entries of streams, as Redis returns them.

use std::{fmt, time::SystemTime};

use redis::{FromRedisValue, ParsingError, Value};

use crate::time::from_millis;

/// The identifier of an entry in a stream. Within a stream, later entries have greater ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// When Redis added the entry, in milliseconds since 1970.
    added_ms: u64,
    /// Distinguishes entries that were added in the same millisecond.
    sequence: u64,
}

/// An entry of a stream. Unlike the client library's type, it copies neither values nor names.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) id: String,
    /// Names and values alternate.
    fields: Vec<Value>,
}

impl StreamId {
    /// Parses an identifier as Redis writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (added_ms, sequence) = text.split_once('-')?;
        Some(Self { added_ms: added_ms.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    /// Returns an identifier for a test.
    #[cfg(test)]
    pub(super) fn new(added_ms: u64, sequence: u64) -> Self {
        Self { added_ms, sequence }
    }

    /// Returns when the entry was added, by the clock of Redis.
    pub fn added_at(self) -> SystemTime {
        from_millis(self.added_ms)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.added_ms, self.sequence)
    }
}

impl StreamEntry {
    /// Removes a field and returns its value, or `None` if there is no such field of that type.
    pub(super) fn take<T: FromRedisValue>(&mut self, name: &str) -> Option<T> {
        for field in self.fields.chunks_exact_mut(2) {
            if matches!(&field[0], Value::BulkString(bytes) if bytes == name.as_bytes()) {
                let value = std::mem::replace(&mut field[1], Value::Nil);
                return T::from_redis_value(value).ok();
            }
        }
        None
    }
}

impl FromRedisValue for StreamEntry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, fields) = <(String, Vec<Value>)>::from_redis_value(value)?;
        Ok(Self { id, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_ordered_as_in_redis() {
        let ordered = ["0-1", "9-0", "10-0", "10-9", "10-10"].map(|text| StreamId::parse(text).unwrap());
        assert!(ordered.is_sorted());
        assert_eq!(ordered[4].to_string(), "10-10");
        for damaged in ["", "1", "1-", "-1", "a-1", "1-0-0"] {
            assert_eq!(StreamId::parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_field_is_taken_by_its_name() {
        let text = |text: &str| Value::BulkString(text.into());
        let fields = ["body", "received", "received", "7", "odd"].map(text);
        let entry = Value::Array(vec![text("7-1"), Value::Array(fields.into())]);
        let mut entry = StreamEntry::from_redis_value(entry).unwrap();
        assert_eq!(entry.id, "7-1");
        assert_eq!(entry.take::<u64>("body"), None, "the value has another type");
        assert_eq!(entry.take::<u64>("received"), Some(7), "a value is not taken for a name");
        assert_eq!(entry.take::<String>("odd"), None, "a name without a value is not a field");
        assert_eq!(entry.take::<String>("missing"), None);
    }
}
