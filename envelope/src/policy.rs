//! What the decision may be told to do differently.

use crate::{Authenticity, Feature};

/// The settings of [`decide`](crate::decide()).
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Policy {
    /// The one path that is a webhook; a query string after it is ignored.
    pub path: String,
    /// The most bytes that a body may have.
    pub max_body_bytes: usize,
    /// The most JSON objects and arrays that may be open at once, 2 to [`Policy::DEPTH_LIMIT`].
    pub max_depth: u32,
    /// The header in which a sender may state its audience, in lower case. TruEnroll documents none.
    pub audience_header: String,
    /// Whether a request must state its audience. TruEnroll documents no place for it, so by default it need not.
    pub audience: Statement,
    /// How far ahead of our clock `occurredAt` may be, in seconds.
    pub clock_skew_seconds: u32,
    /// What to do with fields that are not documented.
    pub unknown_fields: UnknownFields,
    /// What to do with events that are not documented.
    pub unknown_events: UnknownEvents,
    /// The features whose events are refused.
    pub disabled_features: Vec<Feature>,
    /// What a request has to show.
    pub authenticity: Authenticity,
    /// Whether refusals are made or only noted. The decision itself is the same.
    pub mode: Mode,
}

/// Whether something has to be stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Statement {
    /// It may be left out.
    Optional,
    /// Leaving it out is a refusal.
    Required,
}

/// What to do with events that are not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum UnknownEvents {
    /// They are a refusal.
    Refuse,
    /// They pass, marked, and the backend keeps them apart.
    Quarantine,
}

/// What is done about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Mode {
    /// It is made.
    Enforce,
    /// It is counted and marked, and the request passes; the backend stores it if it is an event at all.
    Shadow,
}

/// What to do with fields that are not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum UnknownFields {
    /// They pass: TruEnroll may add fields.
    Pass,
    /// They are a refusal.
    Refuse,
}

impl Policy {
    /// The value that an audience must have where one is stated.
    pub const AUDIENCE: &str = "partner";
    /// The greatest `max_depth`: one bit of a word for each open object or array.
    pub const DEPTH_LIMIT: u32 = 64;
    /// The greatest `max_body_bytes`: what Envoy is set to buffer.
    pub const BODY_LIMIT: usize = 32 * 1024;

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// The setting's name and what it must be.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !self.path.starts_with('/')
            || !self.path.bytes().all(|byte| matches!(byte, b'!'..=b'~' if byte != b'?' && byte != b'#'))
        {
            Err(("path", "must begin with / and hold visible ASCII without ? and #"))
        } else if !(1..=Self::BODY_LIMIT).contains(&self.max_body_bytes) {
            Err(("max_body_bytes", "must be 1 to 32768, which is what Envoy is set to buffer"))
        } else if !(2..=Self::DEPTH_LIMIT).contains(&self.max_depth) {
            Err(("max_depth", "must be 2 to 64"))
        } else if self.audience_header.is_empty() || !self.audience_header.bytes().all(is_token) {
            Err(("audience_header", "must be a header name in lower case"))
        } else if self.audience_header.starts_with(crate::headers::RESERVED_PREFIX) {
            Err(("audience_header", "must not begin with x-edge-, which is ours"))
        } else {
            self.authenticity.validate()
        }
    }

    /// The path to show in a log instead of one that holds a token, right or wrong.
    pub fn path_without_token(&self, path: &[u8]) -> Option<String> {
        let Authenticity::PathToken { .. } = self.authenticity else { return None };
        let rest = path.strip_prefix(self.path.as_bytes())?;
        (!rest.is_empty()).then(|| format!("{}/-", self.path))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            path: "/webhooks/truenroll".to_owned(),
            max_body_bytes: 16 * 1024,
            max_depth: 32,
            audience_header: "x-truenroll-audience".to_owned(),
            audience: Statement::Optional,
            clock_skew_seconds: 300,
            unknown_fields: UnknownFields::Pass,
            unknown_events: UnknownEvents::Refuse,
            disabled_features: Vec::new(),
            authenticity: Authenticity::None,
            mode: Mode::Enforce,
        }
    }
}
