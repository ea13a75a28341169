//! The policy as an operator writes it: a TOML file, with the tokens in it, in a separate file, or
//! in the environment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::unreadable::Unreadable;

/// Why a policy cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The policy is not TOML. Contains the line's number and the reason, but not the line, which
    /// may contain a token.
    #[error("{0} is not valid TOML, line {1}: {2}")]
    NotToml(PathBuf, usize, String),
    /// The policy has tokens in two places.
    #[error("`{0}.tokens` and `{0}.tokens_file` are both set. Keep one of them")]
    Both(String),
    /// Tokens were given for a policy with another kind of authenticity.
    #[error(
        "tokens were given (--token or WEBHOOK_TOKEN), but `authenticity.kind` is \"{0}\". Set it to \"path_token\", and \
         move the other kind to [authenticity.or] while senders change to the token"
    )]
    OtherKind(String),
    /// Tokens were given for a policy that has tokens.
    #[error("tokens were given (--token or WEBHOOK_TOKEN), but the policy has tokens as well. Keep one of them")]
    TokensTwice,
    /// The system provides no random numbers.
    #[error("cannot get random numbers from the system: {0}")]
    NoRandom(String),
}

/// The length of a new token in bytes, before base64url encoding.
const TOKEN_BYTES: usize = 32;

/// Returns a new random token.
///
/// # Errors
/// If the system provides no random numbers.
pub fn new_token() -> Result<String, PolicyFileError> {
    let mut random = [0; TOKEN_BYTES];
    getrandom::fill(&mut random).map_err(|error| PolicyFileError::NoRandom(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// Reads the policy at `path`, or takes the default policy, and adds `tokens`, separated by white
/// space. The filter's own code checks the result later.
///
/// # Errors
/// If a file cannot be read, or tokens come from two places.
pub fn read(path: Option<&Path>, tokens: Option<&str>) -> Result<Value, PolicyFileError> {
    let mut policy = match path {
        None => json!({}),
        Some(path) => {
            let text = read_text(path)?;
            toml::from_str(&text).map_err(|error: toml::de::Error| {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                PolicyFileError::NotToml(path.to_owned(), line, error.message().to_owned())
            })?
        }
    };
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    for (pointer, name) in [("/authenticity", "authenticity"), ("/authenticity/or", "authenticity.or")] {
        if let Some(authenticity) = policy.pointer_mut(pointer) {
            resolve_tokens_file(authenticity, name, folder)?;
        }
    }
    let tokens: Vec<_> = tokens.unwrap_or_default().split_whitespace().collect();
    if tokens.is_empty() { Ok(policy) } else { with_tokens(policy, &tokens) }
}

fn resolve_tokens_file(authenticity: &mut Value, name: &str, folder: &Path) -> Result<(), PolicyFileError> {
    let Some(table) = authenticity.as_object_mut() else { return Ok(()) };
    let Some(file) = table.get("tokens_file").and_then(Value::as_str).map(|file| folder.join(file)) else {
        return Ok(());
    };
    if table.contains_key("tokens") {
        return Err(PolicyFileError::Both(name.to_owned()));
    }
    let text = read_text(&file)?;
    let tokens: Vec<_> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    table.insert("tokens".to_owned(), json!(tokens));
    table.remove("tokens_file");
    Ok(())
}

fn with_tokens(mut policy: Value, tokens: &[&str]) -> Result<Value, PolicyFileError> {
    match policy.pointer("/authenticity/kind").and_then(Value::as_str) {
        None | Some("none" | "path_token") => {}
        Some(other) => return Err(PolicyFileError::OtherKind(other.to_owned())),
    }
    if policy.pointer("/authenticity/tokens").is_some() {
        return Err(PolicyFileError::TokensTwice);
    }
    if policy.get("authenticity").is_none() {
        policy["authenticity"] = json!({});
    }
    // The filter's own code reports an `authenticity` that is not a table.
    if let Some(table) = policy["authenticity"].as_object_mut() {
        table.insert("kind".to_owned(), json!("path_token"));
        table.insert("tokens".to_owned(), json!(tokens));
    }
    Ok(policy)
}

fn read_text(path: &Path) -> Result<String, PolicyFileError> {
    fs::read_to_string(path).map_err(|error| Unreadable { path: path.to_owned(), error }.into())
}

#[cfg(test)]
mod tests {
    use envelope::{Policy, settings::Table};

    use super::*;

    #[test]
    fn tokens_come_from_exactly_one_of_policy_file_and_environment() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokens"), "# the new one\nnew-token-0123456789\n\n  old-token-0123456789\n")
            .unwrap();
        let none = json!({});
        let token = |tokens: &[&str]| json!({ "authenticity": { "kind": "path_token", "tokens": tokens } });
        let both = token(&["new-token-0123456789", "old-token-0123456789"]);
        let mut with_or = token(&["a-token-0123456789"]);
        with_or["authenticity"]["or"] = json!({ "kind": "none" });
        for (toml, given, expected) in [
            ("", None, Ok(&none)),
            ("", Some(" "), Ok(&none)),
            ("", Some("new-token-0123456789\n old-token-0123456789"), Ok(&both)),
            ("[authenticity]\nkind = 'none'", Some("new-token-0123456789 old-token-0123456789"), Ok(&both)),
            ("[authenticity]\nkind = 'path_token'\ntokens_file = 'tokens'", None, Ok(&both)),
            (
                "[authenticity]\nkind = 'none'\n[authenticity.or]\nkind = 'none'",
                Some("a-token-0123456789"),
                Ok(&with_or),
            ),
            ("[authenticity]\nkind = 'path_token'\ntokens_file = 'tokens'", Some("a"), Err("as well")),
            ("[authenticity]\nkind = 'path_token'\ntokens_file = 'tokens'\ntokens = []", None, Err("are both set")),
            ("[authenticity]\nkind = 'path_token'\ntokens_file = 'missing'", None, Err("missing")),
            ("[authenticity]\nkind = 'standard_webhooks'\nsecrets = []", Some("a"), Err("standard_webhooks")),
        ] {
            let path = folder.path().join("policy.toml");
            fs::write(&path, toml).unwrap();
            let read = read(Some(&path), given).map_err(|error| error.to_string());
            match expected {
                Ok(expected) => assert_eq!(read.as_ref(), Ok(expected), "{toml} {given:?}"),
                Err(part) => {
                    assert!(read.as_ref().is_err_and(|said| said.contains(part)), "{toml} {given:?}: {read:?}");
                }
            }
        }
    }

    #[test]
    fn an_error_names_the_line_but_not_the_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "[authenticity]\nkind = 'path_token'\ntokens = ['a-secret-0123456789'\n").unwrap();
        let error = read(Some(file.path()), None).unwrap_err().to_string();
        assert!(error.contains("is not valid TOML, line 3: ") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn tokens_do_not_hide_an_authenticity_that_is_not_a_table() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "authenticity = 'none'").unwrap();
        let policy = read(Some(file.path()), Some("a-token-0123456789")).unwrap().to_string();
        let error = Policy::read(Table::parse(policy.as_bytes()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("authenticity") && !error.contains("a-token"), "{error}");
    }

    #[test]
    fn the_filter_accepts_a_new_token() {
        let token = new_token().unwrap();
        let other = new_token().unwrap();
        assert_ne!(token, other);
        let policy = read(None, Some(&format!("{token} {other}"))).unwrap().to_string();
        assert!(Policy::read(Table::parse(policy.as_bytes()).unwrap()).is_ok(), "{token}");
    }
}
