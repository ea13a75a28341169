//! Rejections, and their form as problem details (RFC 9457).

use std::fmt::Write as _;

/// The reason for a rejection. Its stable name is a metric label, a field of the access log and a
/// member of the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`title` explains each code")]
pub enum Code {
    NotFound,
    MethodNotAllowed,
    UnsupportedMediaType,
    UnsupportedContentEncoding,
    DuplicateHeader,
    PayloadTooLarge,
    MissingSignature,
    StaleTimestamp,
    InvalidSignature,
    EmptyBody,
    MalformedJson,
    DuplicateField,
    TooDeep,
    WrongAudience,
    MissingAudience,
    MissingField,
    InvalidField,
    UnknownEvent,
    FeatureDisabled,
}

/// A field of the body that a rejection can point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field with that name")]
pub enum Field {
    Root,
    EventName,
    Audience,
    Payload,
    CaseId,
    ExternalId,
    OccurredAt,
    PayloadAudience,
}

/// A rejection: its code, and the place in the body that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub code: Code,
    /// The invalid field, if it is a single one.
    pub field: Option<Field>,
    /// The offset in bytes at which the body could not be read, if it is not valid JSON.
    pub byte: Option<usize>,
}

impl Code {
    /// All codes, in the order of the checks.
    pub const ALL: [Self; 19] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::DuplicateHeader,
        Self::UnsupportedMediaType,
        Self::UnsupportedContentEncoding,
        Self::PayloadTooLarge,
        Self::MissingSignature,
        Self::StaleTimestamp,
        Self::InvalidSignature,
        Self::EmptyBody,
        Self::MalformedJson,
        Self::DuplicateField,
        Self::TooDeep,
        Self::WrongAudience,
        Self::MissingAudience,
        Self::MissingField,
        Self::InvalidField,
        Self::UnknownEvent,
        Self::FeatureDisabled,
    ];

    /// Returns the code's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnsupportedContentEncoding => "unsupported_content_encoding",
            Self::DuplicateHeader => "duplicate_header",
            Self::PayloadTooLarge => "payload_too_large",
            Self::MissingSignature => "missing_signature",
            Self::StaleTimestamp => "stale_timestamp",
            Self::InvalidSignature => "invalid_signature",
            Self::EmptyBody => "empty_body",
            Self::MalformedJson => "malformed_json",
            Self::DuplicateField => "duplicate_field",
            Self::TooDeep => "too_deep",
            Self::WrongAudience => "wrong_audience",
            Self::MissingAudience => "missing_audience",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::UnknownEvent => "unknown_event",
            Self::FeatureDisabled => "feature_disabled",
        }
    }

    /// Returns the code's HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::DuplicateHeader | Self::EmptyBody | Self::MalformedJson | Self::DuplicateField | Self::TooDeep => 400,
            Self::MissingSignature | Self::StaleTimestamp | Self::InvalidSignature => 401,
            Self::WrongAudience | Self::MissingAudience => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType | Self::UnsupportedContentEncoding => 415,
            Self::MissingField | Self::InvalidField | Self::UnknownEvent | Self::FeatureDisabled => 422,
        }
    }

    /// Returns an explanation for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "No webhook at this path",
            Self::MethodNotAllowed => "The method must be POST",
            Self::UnsupportedMediaType => "The content type must be application/json",
            Self::UnsupportedContentEncoding => "The content encoding must be identity",
            Self::DuplicateHeader => "A relevant header was sent more than once",
            Self::PayloadTooLarge => "The body is too large",
            Self::MissingSignature => "The request has no signature",
            Self::StaleTimestamp => "The signature timestamp is too old or in the future",
            Self::InvalidSignature => "The signature does not match any accepted secret",
            Self::EmptyBody => "The body is empty",
            Self::MalformedJson => "The body is not a single JSON document in UTF-8",
            Self::DuplicateField => "A field occurs more than once",
            Self::TooDeep => "The body is nested too deeply",
            Self::WrongAudience => "The event is not meant for partners",
            Self::MissingAudience => "The event states no audience",
            Self::MissingField => "A required field is missing",
            Self::InvalidField => "A field has an invalid value",
            Self::UnknownEvent => "The event is not a documented partner event",
            Self::FeatureDisabled => "Events of this feature are disabled",
        }
    }
}

impl Field {
    /// Returns the field's JSON pointer (RFC 6901).
    pub const fn pointer(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::EventName => "/eventName",
            Self::Audience => "/audience",
            Self::Payload => "/payload",
            Self::CaseId => "/payload/caseId",
            Self::ExternalId => "/payload/externalId",
            Self::OccurredAt => "/payload/occurredAt",
            Self::PayloadAudience => "/payload/audience",
        }
    }

    const fn requirement(self) -> &'static str {
        match self {
            Self::Root => "must be an object with the documented fields",
            Self::EventName => {
                "must be one of case.{classification,extraction,forensics,translation}.{completed,failed}"
            }
            Self::Audience | Self::PayloadAudience => "must be partner or absent",
            Self::Payload => "must be an object with the documented fields",
            Self::CaseId => "must be a string of 1 to 128 characters of A-Z a-z 0-9 _ -",
            Self::ExternalId => "must be null or a string of 1 to 128 characters",
            Self::OccurredAt => "must be an RFC 3339 date-time that is not in the future",
        }
    }
}

impl Rejection {
    /// Creates a rejection of the request as a whole.
    pub const fn new(code: Code) -> Self {
        Self { code, field: None, byte: None }
    }

    /// Creates a rejection because of one field.
    pub const fn of_field(code: Code, field: Field) -> Self {
        Self { code, field: Some(field), byte: None }
    }

    /// Creates a rejection because the body is not valid JSON at offset `byte`.
    pub const fn at_byte(code: Code, byte: usize) -> Self {
        Self { code, field: None, byte: Some(byte) }
    }

    /// Returns the answer's body, `application/problem+json`. It never repeats anything that was
    /// sent.
    pub fn to_problem_json(self) -> String {
        let code = self.code.as_str();
        let title = self.code.title();
        let status = self.code.status();
        let mut json = format!(
            r#"{{"type":"urn:truenroll-edge:problem:{code}","title":"{title}","status":{status},"code":"{code}""#
        );
        if let Some(field) = self.field {
            let pointer = field.pointer();
            let requirement = field.requirement();
            let name = pointer.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("the body");
            _ = write!(json, r#","pointer":"{pointer}","detail":"{name} {requirement}""#);
        }
        if let Some(byte) = self.byte {
            _ = write!(json, r#","detail":"The body is invalid at byte {byte}""#);
        }
        json.push('}');
        json
    }
}

/// The media type of [`Rejection::to_problem_json`].
pub const MEDIA_TYPE: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_metric_labels() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn a_problem_is_json_with_code_status_and_pointer() {
        for rejection in [
            Rejection::new(Code::NotFound),
            Rejection::of_field(Code::InvalidField, Field::CaseId),
            Rejection::of_field(Code::InvalidField, Field::Root),
            Rejection::at_byte(Code::MalformedJson, 17),
        ] {
            let problem: serde_json::Value = serde_json::from_str(&rejection.to_problem_json()).unwrap();
            assert_eq!(problem["code"], rejection.code.as_str());
            assert_eq!(problem["status"], rejection.code.status());
            assert_eq!(
                problem.get("pointer").and_then(|pointer| pointer.as_str()),
                rejection.field.map(Field::pointer)
            );
        }
    }
}
