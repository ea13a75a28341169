//! What the decision may be told to do differently.

use crate::{
    Authenticity, Feature,
    authenticity::Way,
    headers,
    settings::{SettingsError, Table},
};

/// The settings of [`decide`](crate::decide()).
#[derive(Debug, Clone)]
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
    /// What a request may show instead, while senders change from it to [`authenticity`](Self::authenticity).
    pub superseded: Option<Authenticity>,
    /// Whether rejections are made or only noted. The decision itself is the same.
    pub mode: Mode,
}

/// Whether something has to be stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// It may be left out.
    Optional,
    /// Leaving it out is a rejection.
    Required,
}

/// What to do with events that are not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownEvents {
    /// They are a rejection.
    Reject,
    /// They pass, marked, and the backend keeps them apart.
    Quarantine,
}

/// What is done about a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is made.
    Enforce,
    /// It is counted and marked, and the request passes; the backend stores it if it is an event at all.
    Shadow,
}

/// What to do with fields that are not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// They pass: TruEnroll may add fields.
    Pass,
    /// They are a rejection.
    Reject,
}

impl Policy {
    /// The value that an audience must have where one is stated.
    pub const AUDIENCE: &str = "partner";
    /// What the paths of the publisher's own requests begin with. No webhook is there, and what a stranger sends there ends
    /// in Envoy.
    pub const RESERVED_PATH: &str = "/-/";
    /// Where the filter says which build it is, whatever else it is set to: with `not_found`.
    pub const PROBE_PATH: &str = "/-/guardctl";
    /// Where the filter lets a request of the publisher pass, marked [`Mark::Probe`](headers::Mark), so that the backend
    /// says whether it knows the proof.
    pub const PROVE_PATH: &str = "/-/guardctl/prove";
    /// The greatest `max_depth`: one bit of a word for each open object or array.
    pub const DEPTH_LIMIT: u32 = 64;
    /// The greatest `max_body_bytes`: what Envoy is set to buffer.
    pub const BODY_LIMIT: u32 = 32 * 1024;

    /// Reads the settings that differ from the default.
    ///
    /// # Errors
    /// The first setting that is unknown or is not what it must be.
    pub fn read(mut table: Table<'_>) -> Result<Self, SettingsError> {
        let usual = Self::default();

        let rule = (
            "must begin with / but not be or be below /-, and hold visible ASCII without ? and #",
            "must be a header name in lower case, none of ours (x-edge-)",
        );
        let authenticity = table.table("authenticity")?.map(Authenticity::read).transpose()?;
        let (authenticity, superseded) = authenticity.unwrap_or_default();
        let policy = Self {
            path: table.text("path", rule.0, is_path)?.unwrap_or(usual.path),
            max_body_bytes: table
                .number("max_body_bytes", 1..=Self::BODY_LIMIT)?
                .map_or(usual.max_body_bytes, |bytes| bytes as usize),
            max_depth: table.number("max_depth", 2..=Self::DEPTH_LIMIT)?.unwrap_or(usual.max_depth),
            audience_header: table.text("audience_header", rule.1, is_foreign_header)?.unwrap_or(usual.audience_header),
            audience: table
                .choice("audience", &[("optional", Statement::Optional), ("required", Statement::Required)])?
                .unwrap_or(usual.audience),
            clock_skew_seconds: table.number("clock_skew_seconds", 0..=u32::MAX)?.unwrap_or(usual.clock_skew_seconds),
            unknown_fields: table
                .choice(
                    "unknown_fields",
                    &[
                        ("pass", UnknownFields::Pass),
                        ("reject", UnknownFields::Reject),
                        ("refuse", UnknownFields::Reject),
                    ],
                )?
                .unwrap_or(usual.unknown_fields),
            unknown_events: table
                .choice(
                    "unknown_events",
                    &[
                        ("reject", UnknownEvents::Reject),
                        ("refuse", UnknownEvents::Reject),
                        ("quarantine", UnknownEvents::Quarantine),
                    ],
                )?
                .unwrap_or(usual.unknown_events),
            disabled_features: table
                .list(
                    "disabled_features",
                    "must be classification, extraction, forensics or translation",
                    0..=4,
                    Feature::parse,
                )?
                .unwrap_or_default(),
            authenticity,
            superseded,
            mode: table.choice("mode", &[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)])?.unwrap_or(usual.mode),
        };
        table.end()?;
        Ok(policy)
    }

    /// The ways to be authentic that are accepted, the current one first.
    pub fn ways(&self) -> impl Iterator<Item = (Way, &Authenticity)> {
        let superseded = self.superseded.iter().map(|superseded| (Way::Superseded, superseded));
        std::iter::once((Way::Current, &self.authenticity)).chain(superseded)
    }

    /// The path to show in a log instead of one that holds a token, right or wrong.
    pub fn path_without_token(&self, path: &[u8]) -> Option<String> {
        if !self.ways().any(|(_, authenticity)| matches!(authenticity, Authenticity::PathToken { .. })) {
            return None;
        }
        let rest = path.strip_prefix(self.path.as_bytes())?;
        (!rest.is_empty()).then(|| format!("{}/-", self.path))
    }
}

fn is_path(path: &str) -> bool {
    path != Policy::RESERVED_PATH.trim_end_matches('/')
        && !path.starts_with(Policy::RESERVED_PATH)
        && path.starts_with('/')
        && path.bytes().all(|byte| matches!(byte, b'!'..=b'~' if byte != b'?' && byte != b'#'))
}

/// Whether it is a header name in lower case that is not ours.
fn is_foreign_header(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(is_token) && !name.starts_with(headers::RESERVED_PREFIX)
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
            unknown_events: UnknownEvents::Reject,
            disabled_features: Vec::new(),
            authenticity: Authenticity::None,
            superseded: None,
            mode: Mode::Enforce,
        }
    }
}
