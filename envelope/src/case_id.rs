//! TruEnroll's identifier of a case.

use std::{borrow::Cow, fmt};

/// An opaque case identifier: 1 to 128 of `A-Z a-z 0-9 _ -`.
///
/// The documented example has letters past `f`, so nothing more is assumed of it. The alphabet keeps it safe in a URL's
/// path, in a Redis key and in a log line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaseId<'a>(Cow<'a, str>);

impl<'a> CaseId<'a> {
    /// The most characters an identifier may have.
    pub const MAX_LENGTH: usize = 128;

    /// Takes `text` as an identifier if it is one.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        ((1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(allowed)).then_some(Self(text))
    }

    /// The identifier's characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same identifier, no longer borrowed from the request.
    pub fn into_owned(self) -> CaseId<'static> {
        CaseId(Cow::Owned(self.0.into_owned()))
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
    fn only_the_alphabet_and_the_length_are_checked() {
        for good in ["6850abc123def456ghi789", "a", "A-b_9", &"x".repeat(128)] {
            assert!(CaseId::new(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a:b", "a{b}", "é", "a\0", &"x".repeat(129)] {
            assert!(CaseId::new(bad).is_none(), "{bad:?}");
        }
    }
}
