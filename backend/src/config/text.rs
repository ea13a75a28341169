//! A check that text is quoted in the file. Otherwise TOML would change it: an API key written as
//! the number `12345678e5` would become `1234567800000`.

use config::{Map, Value, ValueKind};

use super::ConfigError;

/// Checks that each setting whose default is text is text in the file.
///
/// # Errors
/// Names the first setting that is not. Leaves out what is written, since it may be a secret.
pub(super) fn ensure_quoted(defaults: &Map<String, Value>, file: &Map<String, Value>) -> Result<(), ConfigError> {
    ensure_quoted_below("", defaults, file)
}

fn ensure_quoted_below(
    path: &str,
    defaults: &Map<String, Value>,
    file: &Map<String, Value>,
) -> Result<(), ConfigError> {
    for (name, value) in file {
        let key = format!("{path}{name}");
        match (defaults.get(name).map(|default| &default.kind), &value.kind) {
            (Some(ValueKind::Table(defaults)), ValueKind::Table(values)) => {
                ensure_quoted_below(&format!("{key}."), defaults, values)?;
            }
            (Some(ValueKind::String(_)), kind) => {
                if let Some(written) = not_text(kind) {
                    let file = value.origin().unwrap_or("the file");
                    let problem = format!("`{key}` is text, but is written as {written} in {file}: put it in quotes");
                    return Err(ConfigError::Source(problem));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn not_text(kind: &ValueKind) -> Option<&'static str> {
    match kind {
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) | ValueKind::Float(_) => {
            Some("a number")
        }
        ValueKind::Boolean(_) => Some("true or false"),
        _ => None,
    }
}
