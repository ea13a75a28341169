//! A strict JSON reader (RFC 8259) that checks a whole document in one pass and keeps only the
//! documented fields.
//!
//! Reading JSON is most of the filter's work, so this reader builds no tree and allocates only for
//! strings with escapes. It does not recurse, so a megabyte of `[` needs no stack. It is stricter
//! than the RFC in two respects: a documented field may occur only once, and an escaped surrogate
//! must be part of a pair.
//!
//! The file is long because the reader is one state machine, whose parts are read together.

use std::{borrow::Cow, str};

use crate::problem::{Code, Field, Rejection};

mod tree;

pub(crate) use tree::{Value, tree};

/// The documented fields of a body.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) root: Slot<'a>,
    pub(crate) event_name: Slot<'a>,
    pub(crate) audience: Slot<'a>,
    pub(crate) payload: Slot<'a>,
    pub(crate) case_id: Slot<'a>,
    pub(crate) external_id: Slot<'a>,
    pub(crate) occurred_at: Slot<'a>,
    pub(crate) payload_audience: Slot<'a>,
    /// The first object that contains an undocumented field.
    pub(crate) unknown_in: Option<Field>,
}

/// A field's value, as far as the decision distinguishes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Slot<'a> {
    #[default]
    Absent,
    Null,
    Text(Text<'a>),
    Object,
    /// A boolean, a number or an array, which no documented field may be.
    Other,
}

/// A well-formed JSON string, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Returns the string's characters. Allocates only if there are escapes.
    pub(crate) fn decode(self) -> Cow<'a, str> {
        if self.escaped { self.characters().collect() } else { Cow::Borrowed(self.raw) }
    }

    pub(crate) fn is(self, expected: &str) -> bool {
        if self.escaped { self.characters().eq(expected.chars()) } else { self.raw == expected }
    }

    fn characters(self) -> impl Iterator<Item = char> {
        let mut raw = self.raw.chars();
        std::iter::from_fn(move || match raw.next()? {
            '\\' => unescape(&mut raw),
            character => Some(character),
        })
    }
}

fn unescape(raw: &mut str::Chars<'_>) -> Option<char> {
    Some(match raw.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => match hex4(raw)? {
            high @ 0xD800..=0xDBFF => {
                raw.nth(1)?;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (hex4(raw)? - 0xDC00))?
            }
            unit => char::from_u32(unit)?,
        },
        itself => itself,
    })
}

fn hex4(raw: &mut str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |number, _| Some(number * 16 + raw.next()?.to_digit(16)?))
}

/// Checks all of `body`, and returns its documented fields.
///
/// # Errors
/// Returns the first of `empty_body`, `malformed_json`, `too_deep` (more than `max_depth` open
/// objects and arrays) and `duplicate_field`.
pub(crate) fn scan(body: &[u8], max_depth: u32) -> Result<Fields<'_>, Rejection> {
    let text = str::from_utf8(body).map_err(|error| Rejection::at_byte(Code::MalformedJson, error.valid_up_to()))?;
    let mut scanner = Scanner { text, bytes: body, at: 0, max_depth };
    let mut fields = Fields::default();
    scanner.skip_whitespace();
    if scanner.peek().is_none() {
        return Err(Rejection::new(Code::EmptyBody));
    }
    fields.root = if scanner.peek() == Some(b'{') {
        scanner.object(1, |scanner, name| scanner.root_member(&mut fields, name))?;
        Slot::Object
    } else {
        scanner.value(0)?
    };
    scanner.skip_whitespace();
    if scanner.peek().is_some() {
        return Err(scanner.malformed());
    }
    Ok(fields)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    max_depth: u32,
}

type Scan<T> = Result<T, Rejection>;

impl<'a> Scanner<'a> {
    fn root_member(&mut self, fields: &mut Fields<'a>, name: Text<'a>) -> Scan<()> {
        let (slot, field) = if name.is("eventName") {
            (&mut fields.event_name, Field::EventName)
        } else if name.is("payload") {
            if fields.payload != Slot::Absent {
                return Err(Rejection::of_field(Code::DuplicateField, Field::Payload));
            }
            if self.peek() == Some(b'{') {
                fields.payload = Slot::Object;
                return self.object(2, |scanner, name| scanner.payload_member(fields, name));
            }
            (&mut fields.payload, Field::Payload)
        } else if name.is("audience") {
            (&mut fields.audience, Field::Audience)
        } else {
            fields.unknown_in.get_or_insert(Field::Root);
            return self.value(1).map(drop);
        };
        self.fill(slot, field, 1)
    }

    fn payload_member(&mut self, fields: &mut Fields<'a>, name: Text<'a>) -> Scan<()> {
        let (slot, field) = if name.is("caseId") {
            (&mut fields.case_id, Field::CaseId)
        } else if name.is("externalId") {
            (&mut fields.external_id, Field::ExternalId)
        } else if name.is("occurredAt") {
            (&mut fields.occurred_at, Field::OccurredAt)
        } else if name.is("audience") {
            (&mut fields.payload_audience, Field::PayloadAudience)
        } else {
            fields.unknown_in.get_or_insert(Field::Payload);
            return self.value(2).map(drop);
        };
        self.fill(slot, field, 2)
    }

    fn fill(&mut self, slot: &mut Slot<'a>, field: Field, depth: u32) -> Scan<()> {
        if *slot != Slot::Absent {
            return Err(Rejection::of_field(Code::DuplicateField, field));
        }
        *slot = self.value(depth)?;
        Ok(())
    }

    /// Reads an object at nesting depth `depth`, whose opening brace is next. `member` reads each
    /// value.
    fn object(&mut self, depth: u32, mut member: impl FnMut(&mut Self, Text<'a>) -> Scan<()>) -> Scan<()> {
        self.check_depth(depth)?;
        self.at += 1;
        self.skip_whitespace();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.name()?;
            member(self, name)?;
            self.skip_whitespace();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_whitespace();
        }
    }

    /// Reads any value within `depth` open objects and arrays.
    fn value(&mut self, depth: u32) -> Scan<Slot<'a>> {
        match self.peek() {
            Some(b'"') => Ok(Slot::Text(self.string()?)),
            Some(b'{') => self.skip_nested(depth).map(|()| Slot::Object),
            Some(b'[') => self.skip_nested(depth).map(|()| Slot::Other),
            _ => self.scalar(),
        }
    }

    /// Skips the object or array that opens here, within `depth` open ones.
    ///
    /// The bits of `objects` tell which of the objects and arrays opened since are objects (1); the
    /// lowest bit is the innermost one.
    fn skip_nested(&mut self, depth: u32) -> Scan<()> {
        let mut objects = 0_u64;
        let mut open = 0;
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    open += 1;
                    self.check_depth(depth + open)?;
                    self.at += 1;
                    objects = objects << 1 | u64::from(bracket == b'{');
                    self.skip_whitespace();
                    if self.peek() != Some(closing(objects)) {
                        self.member_name(objects)?;
                        continue;
                    }
                }
                Some(b'"') => drop(self.string()?),
                _ => drop(self.scalar()?),
            }
            loop {
                self.skip_whitespace();
                if !self.take(closing(objects)) {
                    break;
                }
                open -= 1;
                objects >>= 1;
                if open == 0 {
                    return Ok(());
                }
            }
            self.expect(b',')?;
            self.skip_whitespace();
            self.member_name(objects)?;
        }
    }

    fn member_name(&mut self, objects: u64) -> Scan<()> {
        if objects & 1 == 1 { self.name().map(drop) } else { Ok(()) }
    }

    /// Reads a member's name and colon, up to the value.
    fn name(&mut self) -> Scan<Text<'a>> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        let name = self.string()?;
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        Ok(name)
    }

    /// Reads a string whose opening quote is next.
    fn string(&mut self) -> Scan<Text<'a>> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.malformed()),
            }
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// Skips ordinary characters, eight at a time, while at least eight bytes are left.
    fn skip_plain(&mut self) {
        while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let special = special(u64::from_le_bytes(*eight));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => match self.unit()? {
                0xD800..=0xDBFF => {
                    self.expect(b'\\')?;
                    if self.peek() != Some(b'u') || !(0xDC00..=0xDFFF).contains(&self.unit()?) {
                        return Err(self.malformed());
                    }
                }
                0xDC00..=0xDFFF => return Err(self.malformed()),
                _ => {}
            },
            _ => return Err(self.malformed()),
        }
        Ok(())
    }

    /// Reads the next `u` and four hexadecimal digits.
    fn unit(&mut self) -> Scan<u32> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.malformed())?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn scalar(&mut self) -> Scan<Slot<'a>> {
        for (literal, slot) in [("null", Slot::Null), ("true", Slot::Other), ("false", Slot::Other)] {
            if self.bytes[self.at..].starts_with(literal.as_bytes()) {
                self.at += literal.len();
                return Ok(slot);
            }
        }
        self.number().map(|()| Slot::Other)
    }

    fn number(&mut self) -> Scan<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan<()> {
        let length = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(self.malformed()) } else { Ok(()) }
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    fn check_depth(&self, depth: u32) -> Scan<()> {
        if depth > self.max_depth {
            return Err(Rejection::at_byte(Code::TooDeep, self.at));
        }
        Ok(())
    }

    fn malformed(&self) -> Rejection {
        Rejection::at_byte(Code::MalformedJson, self.at)
    }
}

fn closing(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

/// Sets the highest bit of each byte of `eight` that is a quote, a backslash or a control
/// character.
///
/// Subtracting n from a byte below 0x80 sets its highest bit if the byte is less than n. A borrow
/// can set a bit wrongly, but only above a correctly set one, and the caller uses only the lowest
/// set bit.
fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let is_zero = |bytes: u64| bytes.wrapping_sub(ONES);
    let control = eight.wrapping_sub(ONES * 0x20);
    let quote = is_zero(eight ^ (ONES * 0x22));
    let backslash = is_zero(eight ^ (ONES * 0x5C));
    (control | quote | backslash) & !eight & (ONES * 0x80)
}

#[cfg(test)]
mod tests;
