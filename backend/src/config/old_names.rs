//! Names that settings and environment variables once had. Using one is an error that says what to
//! write instead: a setting that is ignored in silence could make an upgraded backend store events
//! in another place, or lose them.

use std::ffi::OsStr;

use super::{ConfigError, error::environment_name};

/// Settings that were renamed, with their present names.
const RENAMED: [(&str, &str); 2] = [
    ("redis.apart_retention_days", "redis.unhandled_retention_days"),
    ("reconciler.first_round_counts", "reconciler.backfill_first_round"),
];

/// Settings that were replaced by others.
const REPLACED: [(&str, &str); 1] =
    [("worker.max_attempts", "no longer exists: set `worker.give_up_after_s` and `worker.min_attempts` instead")];

/// Checks that no environment variable has an old name.
///
/// # Errors
/// Names the first variable that has one, and its present name.
pub(super) fn ensure_no_old_variable(variables: impl Iterator<Item = impl AsRef<OsStr>>) -> Result<(), ConfigError> {
    for variable in variables {
        let Some(old) = variable.as_ref().to_str() else { continue };
        if let Some(new) = present_name(old) {
            return Err(ConfigError::Source(format!("{old} is no longer read: name it {new}")));
        }
    }
    Ok(())
}

/// Returns the present name of an environment variable, if `variable` is an old name.
fn present_name(variable: &str) -> Option<String> {
    if variable == "EDGE_CONFIG" {
        return Some("BACKEND_CONFIG".to_owned());
    }
    let key = variable.strip_prefix("EDGE__")?.replace("__", ".").to_lowercase();
    let renamed = RENAMED.iter().find(|(old, _)| *old == key);
    Some(environment_name(renamed.map_or(&key, |(_, new)| new)))
}

/// Checks that no setting has an old name.
///
/// # Errors
/// Names the first setting that has one, and says what to set instead.
pub(super) fn ensure_no_old_setting(sources: &config::Config) -> Result<(), ConfigError> {
    let is_set = |key: &str| sources.get::<config::Value>(key).is_ok();
    let renamed = RENAMED.iter().map(|(key, new)| {
        (*key, format!("is no longer read: name it `{new}` (in the environment {})", environment_name(new)))
    });
    let replaced = REPLACED.iter().map(|(key, advice)| (*key, (*advice).to_owned()));
    match renamed.chain(replaced).find(|(key, _)| is_set(key)) {
        Some((key, advice)) => Err(ConfigError::Source(format!("`{key}` {advice}"))),
        None => Ok(()),
    }
}
