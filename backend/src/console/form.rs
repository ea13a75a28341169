//! What forms state.

use axum::http::StatusCode;

use super::answer::Failure;

/// Reads a field that may be empty.
pub(super) fn optional<T>(text: &str, read: impl Fn(&str) -> Result<T, &'static str>) -> Result<Option<T>, Failure> {
    let text = text.trim();
    let invalid = |problem| invalid("A filter is invalid", format!("Correct it: a value {problem}."));
    if text.is_empty() { Ok(None) } else { read(text).map(Some).map_err(invalid) }
}

/// Says what is wrong with a form.
pub(super) fn invalid(title: &str, advice: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, title, advice)
}
