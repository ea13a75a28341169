//! The errors of the configuration.

use super::{Origin, Setting};

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
    #[error("configuration: `{key}` {problem} ({})", place(key, origin))]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What is wrong with it, worded to follow its name.
        problem: String,
        /// Where the value comes from.
        origin: Origin,
    },
}

// Not `#[from]`: the message contains the one of the source already, so it is not a cause as well.
impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        if let config::ConfigError::FileParse { uri, cause } = &error
            && let Some(cause) = cause.downcast_ref::<toml::de::Error>()
        {
            // The whole text quotes the line, which may contain a secret.
            let text = cause.to_string();
            let at = text.lines().next().unwrap_or_default();
            let problem = format!("{}: {at}: {}", uri.as_deref().unwrap_or("the file"), cause.message());
            return Self::Unreadable(config::ConfigError::Message(problem));
        }
        Self::Unreadable(error)
    }
}

impl ConfigError {
    /// The error of a value that is not allowed. `problem` is worded to follow the setting's name.
    pub fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { key, problem: problem.into(), origin: Origin::Default }
    }

    /// Returns the same error, which says where the value comes from.
    #[must_use]
    pub fn located(mut self, settings: &[Setting]) -> Self {
        if let Self::Invalid { key, origin, .. } = &mut self
            && let Some(setting) = settings.iter().find(|setting| setting.key == *key)
        {
            origin.clone_from(&setting.origin);
        }
        self
    }
}

/// Says where a value is or can be set.
fn place(key: &str, origin: &Origin) -> String {
    match origin {
        Origin::Default => format!("set it in the file or as {}", environment_name(key)),
        Origin::Environment => format!("set as {}", environment_name(key)),
        Origin::File(path) => format!("set in {path}"),
    }
}

/// Returns the environment variable that sets `key`.
pub(super) fn environment_name(key: &str) -> String {
    format!("{}__{}", super::ENVIRONMENT_PREFIX, key.replace('.', "__").to_uppercase())
}
