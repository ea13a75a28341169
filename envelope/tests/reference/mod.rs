//! Compares the verdict on a body with what serde_json reads. For the tests and the fuzz targets.

use envelope::{Code, Envelope, Verdict};
use serde_json::{Map, Value};

/// Returns whether both read the document as well-formed JSON.
///
/// # Errors
/// Returns a description of the difference if they differ.
pub(crate) fn compare(body: &[u8]) -> Result<bool, String> {
    let ours = Verdict::parse(body);
    let reference: Result<Value, _> = serde_json::from_slice(body);
    let value = match (&ours, reference) {
        (Err(rejection), _) if matches!(rejection.code, Code::TooDeep | Code::DuplicateField) => return Ok(false),
        (Err(rejection), Err(_)) if matches!(rejection.code, Code::MalformedJson | Code::EmptyBody) => {
            return Ok(false);
        }
        // serde_json rejects numbers that do not fit an f64. RFC 8259 allows them, and the reader
        // ignores numbers.
        (_, Err(error)) if error.to_string().contains("number out of range") => return Ok(false),
        (_, Err(error)) => return Err(format!("the verdict is {ours:?}, serde_json says {error}")),
        (_, Ok(value)) => value,
    };
    match (ours, expected(&value)) {
        (Ok(Verdict::Accept(envelope)), Some(expected)) if is_same(&envelope, expected) => Ok(true),
        (Ok(Verdict::Quarantine(event)), Some(expected)) if expected["eventName"] == *event.name => Ok(true),
        (Err(rejection), expected)
            if matches!(rejection.code, Code::MissingField | Code::InvalidField) && !expected.is_some_and(is_valid) =>
        {
            Ok(true)
        }
        (ours, _) => Err(format!("the verdict is {ours:?}, serde_json reads {value}")),
    }
}

/// Returns the document as serde_json reads it, if it is an object with a payload.
fn expected(value: &Value) -> Option<&Map<String, Value>> {
    let object = value.as_object()?;
    object.get("payload")?.as_object()?;
    Some(object)
}

/// Whether every documented field is present and clearly valid.
fn is_valid(object: &Map<String, Value>) -> bool {
    let payload = &object["payload"];
    let case = payload.get("caseId").and_then(Value::as_str).unwrap_or_default();
    let external_id = payload.get("externalId").unwrap_or(&Value::Null);
    object.get("eventName").is_some_and(Value::is_string)
        && (1..=128).contains(&case.len())
        && case.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && (external_id.is_null() || external_id.as_str().is_some_and(|id| (1..=128).contains(&id.chars().count())))
        && payload.get("occurredAt").and_then(Value::as_str) == Some("2025-06-22T10:30:00Z")
}

fn is_same(envelope: &Envelope<'_>, expected: &Map<String, Value>) -> bool {
    let payload = &expected["payload"];
    expected["eventName"] == envelope.event.as_str()
        && payload["caseId"] == envelope.case_id.as_str()
        && payload.get("externalId").and_then(Value::as_str) == envelope.external_id.as_deref()
}
