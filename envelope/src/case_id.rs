//! TruEnroll's case identifiers.

use std::{borrow::Cow, fmt, str::FromStr};

/// An opaque case identifier: 1 to 128 characters of `A-Z a-z 0-9 _ -`.
///
/// TruEnroll documents no format, and its example is not hexadecimal. This alphabet is safe in a
/// URL path, a Redis key and a log line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaseId<'a>(Cow<'a, str>);

impl<'a> CaseId<'a> {
    /// The maximum length of an identifier, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Returns `text` as an identifier, or none if it is not valid.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        ((1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(allowed)).then_some(Self(text))
    }

    /// Returns the identifier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the identifier without borrowing from the request.
    pub fn into_owned(self) -> CaseId<'static> {
        CaseId(Cow::Owned(self.0.into_owned()))
    }
}

impl FromStr for CaseId<'static> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        Self::new(text.to_owned()).ok_or("must be 1 to 128 characters of A-Z a-z 0-9 _ -")
    }
}

impl fmt::Display for CaseId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_checked_for_alphabet_and_length_only() {
        for good in ["6850abc123def456ghi789", "a", "A-b_9", &"x".repeat(128)] {
            assert!(CaseId::new(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a:b", "a{b}", "é", "a\0", &"x".repeat(129)] {
            assert!(CaseId::new(bad).is_none(), "{bad:?}");
        }
    }
}
