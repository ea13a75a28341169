//! The entries of streams, as Redis returns them.

use redis::{FromRedisValue, ParsingError, Value};

/// An entry of a stream. Unlike the client library's type, it copies neither values nor names.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) id: String,
    /// Names and values alternate.
    fields: Vec<Value>,
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
