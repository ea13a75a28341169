//! Lists every setting with its value and its origin. Secrets are masked.

use std::{fmt, path::Path};

use config::{Map, Value, ValueKind};
use serde::Serialize;

use super::Secret;
use crate::http_client;

/// A setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name, such as `redis.partitions`.
    pub key: String,
    /// Its value. A secret is masked, and of a URL only the host is shown, since the path may
    /// contain a token.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
    /// The value itself.
    #[serde(skip)]
    pub raw: Secret,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "path")]
pub enum Origin {
    /// The compiled-in defaults.
    Default,
    /// An environment variable.
    Environment,
    /// A file: the one with settings, or the one that contains the secret.
    File(String),
}

const MASKED: &str = "[redacted]";

/// Lists the settings, sorted by name, in the tables of all sources, of which `file` is one.
pub(super) fn settings_of(sources: Map<String, Value>, file: Option<&Path>) -> Vec<Setting> {
    let mut flat = Map::new();
    flatten("", sources, &mut flat);
    let mut settings: Vec<_> = flat.keys().map(|key| describe(key, &flat, file)).collect();
    settings.sort_unstable_by(|first, second| first.key.cmp(&second.key));
    settings
}

fn flatten(path: &str, table: Map<String, Value>, flat: &mut Map<String, Value>) {
    for (name, value) in table {
        let key = format!("{path}{name}");
        match value.kind {
            ValueKind::Table(table) => flatten(&format!("{key}."), table, flat),
            _ => drop(flat.insert(key, value)),
        }
    }
}

fn describe(key: &str, all: &Map<String, Value>, settings_file: Option<&Path>) -> Setting {
    let text = all[key].to_string();
    // Exactly the secrets can be read from a file.
    let file = all.get(&format!("{key}_file")).map(ToString::to_string);
    let origin = match (&file, all[key].origin()) {
        (Some(file), _) if !file.is_empty() => Origin::File(file.clone()),
        (_, None) => Origin::Default,
        (_, Some(FROM_ENVIRONMENT)) => Origin::Environment,
        // The library would write the path relative to the working directory.
        (_, Some(path)) => Origin::File(settings_file.map_or(path.to_owned(), |file| file.display().to_string())),
    };
    let is_set = !text.is_empty() || file.as_ref().is_some_and(|file| !file.is_empty());
    let value = match file {
        _ if !is_set => "\"\"".to_owned(),
        Some(_) => MASKED.to_owned(),
        None if key.ends_with("url") || key.ends_with("endpoint") => {
            http_client::host_of(&text).unwrap_or_else(|| MASKED.to_owned())
        }
        None => text.clone(),
    };
    Setting { key: key.to_owned(), value, origin, raw: Secret::new(text) }
}

/// How the library `config` names the environment.
const FROM_ENVIRONMENT: &str = "the environment";

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => f.write_str(path),
        }
    }
}
