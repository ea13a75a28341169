//! A value that is not printed by accident.

use std::fmt;

use serde::Deserialize;

/// A password, key or proof. Its `Debug` output does not contain the value.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the values of a setting that accepts several, separated by white space.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split_whitespace()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "[redacted]" })
    }
}
