//! The filter's configuration: what guardctl writes and the filter reads.

use std::fmt;

use crate::{
    Policy,
    headers::{Judgement, Mark},
    settings::{SettingsError, Table},
};

/// The filter's configuration, a JSON object with `build`, `proof` and optionally `policy`.
#[derive(Clone)]
pub struct Settings {
    /// The build's name, 1 to 64 characters of `a-z 0-9 -`. guardctl makes it from the hashes of
    /// the module and the settings.
    pub build: String,
    /// The secret by which the backend recognizes the filter, at least 16 visible ASCII characters
    /// without `;`.
    pub proof: String,
    /// The settings of the decision.
    pub policy: Policy,
    /// The judgement on an accepted event, which is always the same.
    pub accepted: String,
}

impl Settings {
    /// The minimum length of a proof, in characters.
    pub const PROOF_MIN: usize = 16;

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Returns the first setting that is unknown, missing or out of range.
    pub fn parse(json: &[u8]) -> Result<Self, SettingsError> {
        const BUILD: &str = "must be 1 to 64 characters of a-z 0-9 -";
        const PROOF: &str = "must be at least 16 visible ASCII characters without ;";
        let mut table = Table::parse(json)?;
        let build = table.text("build", BUILD, is_build)?.ok_or_else(|| table.error("build", BUILD))?;
        let proof = table.text("proof", PROOF, is_proof)?.ok_or_else(|| table.error("proof", PROOF))?;
        let policy = table.table("policy")?.map(Policy::read).transpose()?.unwrap_or_default();
        table.end()?;
        let accepted = Judgement::write(&proof, &build, Mark::Accepted);
        Ok(Self { build, proof, policy, accepted })
    }
}

fn is_build(text: &str) -> bool {
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(is_label)
}

fn is_proof(text: &str) -> bool {
    text.len() >= Settings::PROOF_MIN && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

/// Does not show the proof.
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
    fn the_policy_is_optional() {
        let settings = Settings::parse(br#"{"build":"a1","proof":"0123456789abcdef"}"#).unwrap();
        assert_eq!(settings.policy.path, Policy::default().path);
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (policy, expected) in [
            ("{}", None),
            (r#"{"max_depth":2,"audience":"required","unknown_fields":"reject"}"#, None),
            (r#"{"max_depth":1}"#, Some("policy.max_depth")),
            (r#"{"max_depth":65}"#, Some("policy.max_depth")),
            (r#"{"max_depth":"8"}"#, Some("policy.max_depth")),
            (r#"{"max_body_bytes":0}"#, Some("policy.max_body_bytes")),
            (r#"{"max_body_bytes":-1}"#, Some("policy.max_body_bytes")),
            (r#"{"path":"webhooks"}"#, Some("policy.path")),
            (r#"{"path":"/a?b"}"#, Some("policy.path")),
            (r#"{"path":"/-"}"#, Some("policy.path")),
            (r#"{"path":"/-/webhook"}"#, Some("policy.path")),
            (r#"{"path":"/-webhook"}"#, None),
            (r#"{"max_body_bytes":32769}"#, Some("policy.max_body_bytes")),
            (r#"{"max_body_bytes":1.5}"#, Some("policy.max_body_bytes")),
            (r#"{"mode":null}"#, Some("policy.mode")),
            (r#"{"disabled_features":"translation"}"#, Some("policy.disabled_features")),
            (r#"{"audience":"maybe"}"#, Some("policy.audience")),
            (r#"{"audience_header":"X-Audience"}"#, Some("policy.audience_header")),
            (r#"{"audience_header":"x-edge-proof"}"#, Some("policy.audience_header")),
            (r#"{"max_dept":8}"#, Some("policy.max_dept")),
            (r#"{"mode":"shadow","unknown_events":"quarantine","disabled_features":["translation"]}"#, None),
            (r#"{"mode":"off"}"#, Some("policy.mode")),
            (r#"{"disabled_features":["verification"]}"#, Some("policy.disabled_features[0]")),
            (r#"{"authenticity":{"kind":"none"}}"#, None),
            (r#"{"authenticity":{"kind":"magic"}}"#, Some("policy.authenticity.kind")),
            (r#"{"authenticity":{"kind":"none","or":{"kind":"none"}}}"#, Some("policy.authenticity.or.kind")),
            (r#"{"authenticity":{"kind":"none","or":{"kind":"path_token","tokens":["0123456789abcdef"]}}}"#, None),
            (
                r#"{"authenticity":{"kind":"none","or":{"kind":"path_token","tokens":["short"]}}}"#,
                Some("policy.authenticity.or.tokens[0]"),
            ),
            (
                r#"{"authenticity":{"kind":"path_token","tokens":["0123456789abcdef"],"or":{"kind":"none","or":{"kind":"none"}}}}"#,
                Some("policy.authenticity.or.or"),
            ),
            (r#"{"authenticity":{"kind":"path_token","tokens":[]}}"#, Some("policy.authenticity.tokens")),
            (r#"{"authenticity":{"kind":"path_token","tokens":["short"]}}"#, Some("policy.authenticity.tokens[0]")),
            (r#"{"authenticity":{"kind":"standard_webhooks","secrets":[]}}"#, Some("policy.authenticity.secrets")),
            (
                r#"{"authenticity":{"kind":"standard_webhooks","secrets":["whsec_x"]}}"#,
                Some("policy.authenticity.secrets[0]"),
            ),
        ] {
            assert_eq!(key(policy).as_deref(), expected, "{policy}");
        }
    }

    #[test]
    fn a_missing_or_unknown_member_is_named() {
        for (json, expected) in [
            (r#"{"proof":"0123456789abcdef"}"#, "build"),
            (r#"{"build":"A!","proof":"0123456789abcdef"}"#, "build"),
            (r#"{"build":"a1","proof":"short"}"#, "proof"),
            (r#"{"build":"a1","proof":"0123456789abcdef"}x"#, "."),
            (r#"{"build":"a1","proof":"0123456789abcdef","build":"a2"}"#, "."),
            (r#"{"build":"a1","proof":"0123456789abcdef","polcy":{}}"#, "polcy"),
            (r#"[]"#, "."),
            ("", "."),
        ] {
            assert_eq!(Settings::parse(json.as_bytes()).unwrap_err().key, expected, "{json}");
        }
    }
}
