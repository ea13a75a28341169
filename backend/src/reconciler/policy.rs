//! Reads from the edge's policy which features are enabled. Events of the others are not
//! backfilled.

use std::{error::Error, fs};

use envelope::{Feature, Policy, settings::Table};

use super::ReconcilerError;
use crate::unreadable::explain;

/// Returns the features that the policy in `file` does not disable; all of them if `file` is empty.
///
/// # Errors
/// If the file cannot be read or is not a policy.
pub(super) fn enabled_features(file: &str) -> Result<Vec<Feature>, ReconcilerError> {
    if file.is_empty() {
        return Ok(Feature::ALL.to_vec());
    }
    let disabled = disabled_features(file)
        .map_err(|error| ReconcilerError::Policy { file: file.to_owned(), error: error.to_string() })?;
    Ok(Feature::ALL.into_iter().filter(|feature| !disabled.contains(feature)).collect())
}

fn disabled_features(file: &str) -> Result<Vec<Feature>, Box<dyn Error>> {
    // The parser's own error is dropped: it would show a line of the file, which may contain a path
    // token.
    let text = fs::read_to_string(file).map_err(|error| explain(&error))?;
    let mut settings: serde_json::Map<_, _> = toml::from_str(&text).map_err(|_| "it is not TOML")?;
    // The reconciler does not need it, and its tokens may be in a file that only `guardctl` can
    // read.
    settings.remove("authenticity");
    let settings = serde_json::Value::Object(settings);
    Ok(Policy::read(Table::parse(settings.to_string().as_bytes())?)?.disabled_features)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn features_of(policy: &str) -> Result<Vec<Feature>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(policy.as_bytes()).unwrap();
        enabled_features(&file.path().display().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_features_that_the_policy_disables_are_left_out() {
        assert_eq!(enabled_features("").unwrap(), Feature::ALL);
        assert_eq!(features_of("").unwrap(), Feature::ALL);
        assert_eq!(features_of(include_str!("../../../envoy/policy.toml")).unwrap(), Feature::ALL);
        let tokens = "[authenticity]\nkind = \"path_token\"\ntokens_file = \"tokens\"";
        assert_eq!(features_of(tokens).unwrap(), Feature::ALL);
        let some = "max_depth = 8\ndisabled_features = [\"translation\", \"classification\"]";
        assert_eq!(features_of(some).unwrap(), [Feature::Extraction, Feature::Forensics]);
    }

    #[test]
    fn an_invalid_policy_is_an_error_that_names_the_setting_and_the_file_and_shows_no_token() {
        let secret = "[authenticity]\nkind = \"path_token\"\ntokens = [\"a-token-of-16-bytes\" oops";
        for policy in [secret, "disabled_features = [\"verification\"]", "disabled = []", "disabled_features = 1"] {
            let error = features_of(policy).unwrap_err();
            assert!(error.contains("`reconciler.policy_file`") && error.contains("/"), "{error}");
            assert!(!error.contains("a-token"), "{error}");
        }
        let error = enabled_features("/missing/policy.toml").unwrap_err().to_string();
        assert!(error.contains("`reconciler.policy_file`") && error.contains("/missing/policy.toml"), "{error}");
    }
}
