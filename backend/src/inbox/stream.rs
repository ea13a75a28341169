//! Entries of streams as Redis gives them.

use redis::{FromRedisValue, ParsingError, Value};

/// An entry of a stream. The client library's own would copy each field, its name too.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) id: String,
    /// Names and values by turns.
    fields: Vec<Value>,
}

impl StreamEntry {
    /// Takes a field out, where it is there and of that type.
    pub(super) fn take<T: FromRedisValue>(&mut self, name: &str) -> Option<T> {
        let is_named = |field: &[Value]| matches!(&field[0], Value::BulkString(bytes) if bytes == name.as_bytes());
        let value = self.fields.chunks_exact_mut(2).find(|field| is_named(field)).map(|field| &mut field[1])?;
        T::from_redis_value(std::mem::replace(value, Value::Nil)).ok()
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
        assert_eq!(entry.take::<u64>("body"), None, "it is of another type");
        assert_eq!(entry.take::<u64>("received"), Some(7), "a value is no name");
        assert_eq!(entry.take::<String>("odd"), None);
        assert_eq!(entry.take::<String>("missing"), None);
    }
}
