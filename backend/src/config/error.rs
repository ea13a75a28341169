//! The errors of the configuration.

use super::{Origin, Setting};

/// A configuration that cannot be used. Messages name the setting, and never contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source cannot be read, or a setting in it is unknown, has an old name, or is written in a way
    /// that its type does not permit.
    #[error("configuration: {0}")]
    Source(String),
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

impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        if let config::ConfigError::FileParse { uri, cause } = &error
            && let Some(cause) = cause.downcast_ref::<toml::de::Error>()
        {
            // The whole text quotes the line, which may contain a secret.
            let text = cause.to_string();
            let at = text.lines().next().unwrap_or_default();
            return Self::Source(format!("{}: {at}: {}", uri.as_deref().unwrap_or("the file"), cause.message()));
        }
        Self::Source(error.to_string())
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
