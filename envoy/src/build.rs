//! One version of the filter, and the checks that it must pass wherever it is going to run.

use envelope::{Authenticity, Policy, filter_settings::Settings, settings::SettingsError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{module, store::hex};

/// One version of the filter: the module with its settings.
#[derive(Debug, Clone)]
pub struct Build {
    /// The WebAssembly module.
    pub module: Vec<u8>,
    /// The policy, as `envelope::filter_settings` reads it.
    pub policy: Value,
    /// The secret by which the backend recognizes the filter.
    pub proof: String,
}

/// A build that was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The build's name: the filter's version, and parts of the module's hash and of the settings'
    /// hash.
    pub name: String,
    /// The module's SHA-256, in hexadecimal.
    pub sha256: String,
    /// The filter's settings, as the filter reads them.
    pub settings: Value,
}

/// Why a build cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The module is not WebAssembly.
    #[error("the file given by --wasm is not a WebAssembly module: it does not begin with \\0asm")]
    NotWasm,
}

impl Build {
    /// Checks the module and the settings, the latter with the filter's own code.
    ///
    /// # Errors
    /// If the module is not WebAssembly, or the settings are invalid.
    pub fn check(&self) -> Result<Checked, BuildError> {
        if !self.module.starts_with(b"\0asm") {
            return Err(BuildError::NotWasm);
        }
        let sha256 = hex(&Sha256::digest(&self.module));
        let settings_hash = hex(&Sha256::digest(format!("{}\0{}", self.policy, self.proof)));
        let name = name(module::version(&self.module), &sha256, &settings_hash);
        let settings = json!({ "build": name, "proof": self.proof, "policy": self.policy });
        let read = Settings::parse(settings.to_string().as_bytes())?;
        ensure_reachable(&read.policy)?;
        Ok(Checked { name, sha256, settings })
    }
}

/// Returns a build's name: the version of its filter, if the module states it, and the beginnings of
/// the hashes of the module and of the settings. A name has no dots, because the filter and Envoy's
/// bootstrap accept none in the label `build` of a metric.
fn name(version: Option<&str>, module_sha256: &str, settings_sha256: &str) -> String {
    let hashes = format!("{}-{}", &module_sha256[..12], &settings_sha256[..8]);
    version.map_or(hashes.clone(), |version| format!("{}-{hashes}", version.replace('.', "-")))
}

/// Rejects a policy under which no token could match: Envoy merges slashes, so the path that a
/// token follows must not end with one.
fn ensure_reachable(policy: &Policy) -> Result<(), SettingsError> {
    let has_token = policy.ways().any(|(_, way)| matches!(way, Authenticity::PathToken { .. }));
    if !has_token || !policy.path.ends_with('/') {
        return Ok(());
    }
    let problem = "must not end with / if path tokens are used: Envoy merges slashes, so no request would match";
    Err(SettingsError { key: "policy.path".to_owned(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_by_its_version_and_hashes() {
        let (module, settings) = ("0123456789abcdef", "fedcba9876543210");
        for (version, expected) in [
            (Some("0.1.0"), "0-1-0-0123456789ab-fedcba98"),
            (Some("1.0.0-rc.1"), "1-0-0-rc-1-0123456789ab-fedcba98"),
            (None, "0123456789ab-fedcba98"),
        ] {
            assert_eq!(name(version, module, settings), expected);
        }
    }

    #[test]
    fn a_path_after_which_no_token_can_match_is_an_error() {
        let tokens = json!({ "kind": "path_token", "tokens": ["0123456789abcdef"] });
        for (policy, is_reachable) in [
            (json!({ "path": "/" }), true),
            (json!({ "authenticity": tokens }), true),
            (json!({ "path": "/", "authenticity": tokens }), false),
            (json!({ "path": "/hooks/", "authenticity": tokens }), false),
            (json!({ "path": "/", "authenticity": { "kind": "none", "or": tokens } }), false),
        ] {
            let settings = json!({ "build": "b1", "proof": "0123456789abcdef", "policy": policy });
            let settings = Settings::parse(settings.to_string().as_bytes()).unwrap();
            assert_eq!(ensure_reachable(&settings.policy).is_ok(), is_reachable, "{policy}");
        }
    }
}
