//! The errors of the configuration.

/// A configuration that cannot be used. Messages name the setting, and never contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source cannot be read, a setting is unknown, or a value has the wrong type.
    #[error("configuration: {0}")]
    Unreadable(config::ConfigError),
    /// Text is written as something else, such as a number. The message omits it, since it may be a
    /// secret.
    #[error("configuration: `{key}` is text, but is written as {written} in {file}: put it in quotes")]
    Unquoted {
        /// The setting.
        key: String,
        /// How it is written.
        written: &'static str,
        /// The file in which it is written.
        file: String,
    },
    /// An environment variable has a name from before the backend's variables were renamed.
    #[error("configuration: {old} is no longer read: name it {new}")]
    RenamedVariable {
        /// The variable.
        old: String,
        /// Its present name.
        new: String,
    },
    /// A setting has been renamed or replaced.
    #[error("configuration: `{key}` {advice}")]
    OldSetting {
        /// The setting.
        key: &'static str,
        /// What to set instead.
        advice: String,
    },
    /// A value is not allowed.
    #[error("configuration: `{key}` {problem} (set it in the file or as {})", environment_name(key))]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What is wrong with it, worded to follow its name.
        problem: String,
    },
}

// Not `#[from]`: the message contains the one of the source already, so it is not a cause as well.
impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        Self::Unreadable(error)
    }
}

impl ConfigError {
    /// The error of a value that is not allowed. `problem` is worded to follow the setting's name.
    pub fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { key, problem: problem.into() }
    }
}

/// Returns the environment variable that sets `key`.
pub(super) fn environment_name(key: &str) -> String {
    format!("{}__{}", super::ENVIRONMENT_PREFIX, key.replace('.', "__").to_uppercase())
}
