//! The filter's configuration.

use std::fmt;

use envelope::Policy;
use serde::Deserialize;

/// What Envoy hands to the filter as JSON.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What this build calls itself, 1 to 64 of `a-z 0-9 -`. The publisher uses the module's hash.
    pub build: String,
    /// The secret that shows the backend that the filter judged a request, at least 16 visible ASCII characters.
    pub proof: String,
    /// What to refuse.
    #[serde(default)]
    pub policy: Policy,
}

/// A configuration that cannot be used: the setting, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The setting's name, `policy.max_depth` for example; a dot where it is the configuration as a whole.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Settings {
    /// The shortest proof, in characters.
    pub const PROOF_MIN: usize = 16;

    /// Reads a configuration and checks all of it.
    ///
    /// # Errors
    /// The first setting that is unknown, missing or out of its range.
    pub fn parse(json: &[u8]) -> Result<Self, SettingsError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let settings: Self = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| SettingsError::new(error.path(), error.inner()))?;
        deserializer.end().map_err(|error| SettingsError::new(".", error))?;

        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&settings.build.len()) || !settings.build.bytes().all(is_label) {
            return Err(SettingsError::new("build", "must be 1 to 64 of a-z 0-9 -"));
        }
        if settings.proof.len() < Self::PROOF_MIN
            || !settings.proof.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
        {
            return Err(SettingsError::new("proof", "must be at least 16 visible ASCII characters without ;"));
        }
        settings
            .policy
            .validate()
            .map_err(|(key, problem)| SettingsError::new(format_args!("policy.{key}"), problem))?;
        Ok(settings)
    }
}

impl SettingsError {
    fn new(key: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { key: key.to_string(), problem: problem.to_string() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter setting `{}`: {}", self.key, self.problem)
    }
}

impl std::error::Error for SettingsError {}

/// Leaves the proof out.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("build", &self.build).field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(policy: &str) -> Option<String> {
        let json = format!(r#"{{"build":"a1","proof":"0123456789abcdef","policy":{policy}}}"#);
        Settings::parse(json.as_bytes()).err().map(|error| error.key)
    }

    #[test]
    fn the_policy_may_be_left_out() {
        let settings = Settings::parse(br#"{"build":"a1","proof":"0123456789abcdef"}"#).unwrap();
        assert_eq!(settings.policy.path, Policy::default().path);
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_bad_setting_is_named() {
        for (policy, expected) in [
            ("{}", None),
            (r#"{"max_depth":2,"audience":"required","unknown_fields":"refuse"}"#, None),
            (r#"{"max_depth":1}"#, Some("policy.max_depth")),
            (r#"{"max_depth":65}"#, Some("policy.max_depth")),
            (r#"{"max_depth":"8"}"#, Some("policy.max_depth")),
            (r#"{"max_body_bytes":0}"#, Some("policy.max_body_bytes")),
            (r#"{"max_body_bytes":-1}"#, Some("policy.max_body_bytes")),
            (r#"{"path":"webhooks"}"#, Some("policy.path")),
            (r#"{"path":"/a?b"}"#, Some("policy.path")),
            (r#"{"audience":"maybe"}"#, Some("policy.audience")),
            (r#"{"audience_header":"X-Audience"}"#, Some("policy.audience_header")),
            (r#"{"audience_header":"x-edge-proof"}"#, Some("policy.audience_header")),
            (r#"{"max_dept":8}"#, Some("policy.max_dept")),
            (r#"{"mode":"shadow","unknown_events":"quarantine","disabled_features":["translation"]}"#, None),
            (r#"{"mode":"off"}"#, Some("policy.mode")),
            (r#"{"disabled_features":["verification"]}"#, Some("policy.disabled_features[0]")),
            (r#"{"authenticity":{"kind":"none"}}"#, None),
            (r#"{"authenticity":{"kind":"magic"}}"#, Some("policy.authenticity.kind")),
            (r#"{"authenticity":{"kind":"path_token","tokens":[]}}"#, Some("policy.authenticity.tokens")),
            (r#"{"authenticity":{"kind":"path_token","tokens":["short"]}}"#, Some("policy.authenticity.tokens")),
            (r#"{"authenticity":{"kind":"standard_webhooks","secrets":[]}}"#, Some("policy.authenticity.secrets")),
            (r#"{"authenticity":{"kind":"standard_webhooks","secrets":["whsec_x"]}}"#, Some("policy.authenticity")),
        ] {
            assert_eq!(key(policy).as_deref(), expected, "{policy}");
        }
        for (json, expected) in [
            (r#"{"proof":"0123456789abcdef"}"#, "."),
            (r#"{"build":"A!","proof":"0123456789abcdef"}"#, "build"),
            (r#"{"build":"a1","proof":"short"}"#, "proof"),
            (r#"{"build":"a1","proof":"0123456789abcdef"}x"#, "."),
            ("", "."),
        ] {
            assert_eq!(Settings::parse(json.as_bytes()).unwrap_err().key, expected, "{json}");
        }
    }
}
