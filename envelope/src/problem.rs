//! Why a request is refused, and how the sender is told (RFC 9457).

use std::fmt::Write as _;

/// A stable name for a reason to refuse. It is a metric label, a field of the access log and a member of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained by its title below")]
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

/// A place in the body that a rejection can point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name")]
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

/// A rejection: the code, and where in the body the reason is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub code: Code,
    /// The field at fault, where it is one field.
    pub field: Option<Field>,
    /// The byte of the body at which reading stopped, counted from 0, where the body could not be read.
    pub byte: Option<usize>,
}

impl Code {
    /// All codes, in the order in which the checks are made.
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

    /// The code as it is written everywhere.
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

    /// The HTTP status that goes with the code.
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

    /// One sentence for a person.
    pub const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "There is no webhook at this path",
            Self::MethodNotAllowed => "A webhook is delivered with POST",
            Self::UnsupportedMediaType => "The body must be application/json",
            Self::UnsupportedContentEncoding => "The body must not be encoded",
            Self::DuplicateHeader => "A header that decides was sent twice",
            Self::PayloadTooLarge => "The body is too large",
            Self::MissingSignature => "The request is not signed",
            Self::StaleTimestamp => "The signature is too old, or from the future",
            Self::InvalidSignature => "The signature is not one of a key that is known here",
            Self::EmptyBody => "The body is empty",
            Self::MalformedJson => "The body is not one JSON document in UTF-8",
            Self::DuplicateField => "A field was sent twice",
            Self::TooDeep => "The body is nested too deeply",
            Self::WrongAudience => "The event is not meant for partners",
            Self::MissingAudience => "The event does not state its audience",
            Self::MissingField => "A field is missing",
            Self::InvalidField => "A field is not valid",
            Self::UnknownEvent => "The event is not one that partners receive",
            Self::FeatureDisabled => "The event is of a feature that is switched off here",
        }
    }
}

impl Field {
    /// Where the field is, as a JSON pointer (RFC 6901).
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
            Self::Root => "must be an object of the documented fields",
            Self::EventName => {
                "must be one of case.{classification,extraction,forensics,translation}.{completed,failed}"
            }
            Self::Audience | Self::PayloadAudience => "must be partner where it is stated",
            Self::Payload => "must be an object of the documented fields",
            Self::CaseId => "must be a string of 1 to 128 of A-Z a-z 0-9 _ -",
            Self::ExternalId => "must be null or a string of 1 to 128 characters",
            Self::OccurredAt => "must be an RFC 3339 date-time that is not in the future",
        }
    }
}

impl Rejection {
    /// A rejection of the request as a whole.
    pub const fn new(code: Code) -> Self {
        Self { code, field: None, byte: None }
    }

    /// A rejection because of one field.
    pub const fn of_field(code: Code, field: Field) -> Self {
        Self { code, field: Some(field), byte: None }
    }

    /// A rejection because reading the body stopped at `byte`.
    pub const fn at_byte(code: Code, byte: usize) -> Self {
        Self { code, field: None, byte: Some(byte) }
    }

    /// The answer's body, `application/problem+json`. It never repeats anything that was sent.
    pub fn to_problem_json(self) -> String {
        let (code, title, status) = (self.code.as_str(), self.code.title(), self.code.status());
        let mut json = format!(
            r#"{{"type":"urn:truenroll-edge:problem:{code}","title":"{title}","status":{status},"code":"{code}""#
        );
        if let Some(field) = self.field {
            let (pointer, requirement) = (field.pointer(), field.requirement());
            let name = pointer.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("the body");
            _ = write!(json, r#","pointer":"{pointer}","detail":"{name} {requirement}""#);
        }
        if let Some(byte) = self.byte {
            _ = write!(json, r#","detail":"Reading stopped at byte {byte} of the body""#);
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
    fn codes_are_labels_and_no_two_are_the_same() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn a_problem_is_json_and_names_code_status_and_pointer() {
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
