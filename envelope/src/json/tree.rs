//! Reads a whole document into values, for configurations.

use super::*;

/// A JSON value, as far as configurations need it.
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    /// The number as it is written.
    Number(&'a str),
    List(Vec<Value<'a>>),
    /// The members, with unique names.
    Table(Vec<(String, Value<'a>)>),
    /// Null or a boolean.
    Other,
}

/// The maximum nesting depth of a configuration.
const TREE_DEPTH: u32 = 8;

/// Reads a whole document.
///
/// # Errors
/// As for [`scan`], with `duplicate_field` for any name that occurs twice in an object.
pub(crate) fn tree(bytes: &[u8]) -> Result<Value<'_>, Rejection> {
    let text = str::from_utf8(bytes).map_err(|error| Rejection::at_byte(Code::MalformedJson, error.valid_up_to()))?;
    let mut scanner = Scanner { text, bytes, at: 0, max_depth: TREE_DEPTH };
    scanner.skip_whitespace();
    let value = scanner.tree(0)?;
    scanner.skip_whitespace();
    if scanner.peek().is_some() { Err(scanner.malformed()) } else { Ok(value) }
}

impl<'a> Scanner<'a> {
    /// Reads any value within `depth` open objects and arrays.
    fn tree(&mut self, depth: u32) -> Scan<Value<'a>> {
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?.decode())),
            Some(b'{') => self.table(depth + 1).map(Value::Table),
            Some(b'[') => self.list(depth + 1).map(Value::List),
            next => {
                let start = self.at;
                self.scalar()?;
                let is_number = next.is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
                Ok(if is_number {
                    Value::Number(self.text.get(start..self.at).unwrap_or_default())
                } else {
                    Value::Other
                })
            }
        }
    }

    fn table(&mut self, depth: u32) -> Scan<Vec<(String, Value<'a>)>> {
        let mut members = Vec::new();
        self.object(depth, |scanner, name| {
            let name = name.decode().into_owned();
            if members.iter().any(|(known, _)| *known == name) {
                return Err(Rejection::at_byte(Code::DuplicateField, scanner.at));
            }
            members.push((name, scanner.tree(depth)?));
            Ok(())
        })?;
        Ok(members)
    }

    fn list(&mut self, depth: u32) -> Scan<Vec<Value<'a>>> {
        self.check_depth(depth)?;
        self.at += 1;
        self.skip_whitespace();
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.tree(depth)?);
            self.skip_whitespace();
            if self.take(b']') {
                return Ok(items);
            }
            self.expect(b',')?;
            self.skip_whitespace();
        }
    }
}
