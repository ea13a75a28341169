//! The result of a check.

use std::fmt;

use serde::Serialize;

use crate::{inbox::InboxError, sink::StreamError};

/// The result of a check. Contains neither secrets nor personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What was found in detail, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Pass,
    /// It works, but may fail or lose something later; or it could not be checked.
    Warning,
    /// Something does not work.
    Failure,
}

impl Finding {
    /// All is well.
    pub fn pass(found: impl Into<String>) -> Self {
        Self { status: Status::Pass, found: found.into(), advice: None, details: Vec::new() }
    }

    /// It works, but `advice` should be followed.
    pub fn warning(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: Status::Warning, advice: Some(advice.into()), ..Self::pass(found) }
    }

    /// It does not work until `advice` is followed.
    pub fn failure(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: Status::Failure, ..Self::warning(found, advice) }
    }

    /// It could not be checked, because of what another check found.
    pub(super) fn not_checked(because: &str, advice: impl Into<String>) -> Self {
        Self::warning(format!("not checked: {because}"), advice)
    }

    /// A failure that an error describes. The project's errors say what happened and, after the
    /// last colon, what to do. `otherwise` is what to do if the error does not say it.
    pub(super) fn of_error(error: &impl fmt::Display, otherwise: &str) -> Self {
        let text = error.to_string();
        match text.rsplit_once(": ") {
            Some((found, advice)) if IMPERATIVES.iter().any(|word| advice.starts_with(word)) => {
                Self::failure(found, advice)
            }
            _ => Self::failure(text, otherwise),
        }
    }

    /// The same with details.
    pub(super) fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }
}

/// What to do if a server gives an unexpected answer, or none.
pub(super) const LOOK_AT_REDIS: &str = "check that Redis runs, and what its log says";

impl From<InboxError> for Finding {
    fn from(error: InboxError) -> Self {
        Self::of_error(&error, LOOK_AT_REDIS)
    }
}

impl From<StreamError> for Finding {
    fn from(error: StreamError) -> Self {
        Self::of_error(&error, LOOK_AT_REDIS)
    }
}

/// How advice in an error begins.
const IMPERATIVES: [&str; 12] = [
    "allow ",
    "ask ",
    "check ",
    "connect ",
    "first ",
    "if it lasts",
    "raise ",
    "run ",
    "set ",
    "the API key ",
    "upgrade ",
    "use ",
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_split_into_what_happened_and_what_to_do() {
        for (error, found, advice) in [
            (
                "Redis at a:1 runs with `x`, so it fails: set it to `y`",
                "Redis at a:1 runs with `x`, so it fails",
                "set it to `y`",
            ),
            ("cannot use Redis at a:1: Connection refused", "cannot use Redis at a:1: Connection refused", "otherwise"),
            ("no answer", "no answer", "otherwise"),
        ] {
            assert_eq!(Finding::of_error(&error, "otherwise"), Finding::failure(found, advice), "{error}");
        }
    }

    #[test]
    fn a_failure_is_worse_than_a_warning() {
        assert!(Status::Failure > Status::Warning && Status::Warning > Status::Pass);
    }
}
