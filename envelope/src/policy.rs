//! The policy: the settings of the decision.

use crate::{
    Authenticity, Feature,
    authenticity::Way,
    headers,
    settings::{SettingsError, Table},
};

/// The settings of [`decide`](crate::decide()).
#[derive(Debug, Clone)]
pub struct Policy {
    /// The webhook's path. A query string after it is ignored.
    pub path: String,
    /// The maximum size of a body, in bytes.
    pub max_body_bytes: usize,
    /// The maximum JSON nesting depth, 2 to [`Policy::DEPTH_LIMIT`].
    pub max_depth: u32,
    /// The header in which a sender may state the audience, in lower case. TruEnroll documents no
    /// such header.
    pub audience_header: String,
    /// Whether a request must state its audience. By default it need not, because TruEnroll
    /// documents no way to state it.
    pub audience: Statement,
    /// How far `occurredAt` may lie ahead of the filter's clock, in seconds.
    pub clock_skew_seconds: u32,
    /// What to do with undocumented fields.
    pub unknown_fields: UnknownFields,
    /// What to do with undocumented events.
    pub unknown_events: UnknownEvents,
    /// The features whose events are rejected.
    pub disabled_features: Vec<Feature>,
    /// What a request must show.
    pub authenticity: Authenticity,
    /// What a request may show instead, while senders change from it to
    /// [`authenticity`](Self::authenticity).
    pub superseded: Option<Authenticity>,
    /// Whether the filter enforces rejections or only counts them. The decision is the same.
    pub mode: Mode,
}

/// Whether a statement is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// It can be omitted.
    Optional,
    /// A request without it is rejected.
    Required,
}

/// What to do with undocumented events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownEvents {
    /// Reject them.
    Reject,
    /// Let them pass with a mark, so that the backend quarantines them.
    Quarantine,
}

/// What the filter does with a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Rejects the request.
    Enforce,
    /// Counts the rejection, and lets the request pass with a mark. The backend stores it if it is
    /// an event.
    Shadow,
}

/// What to do with undocumented fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// Ignore them, because TruEnroll may add fields.
    Pass,
    /// Reject events that have them.
    Reject,
}

/// What every request must show to pass the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Nothing,
    /// A token in the path; during a change, a signature may be enough.
    PathToken,
    /// A signature; during a change, a token in the path may be enough.
    Signature,
}

impl Requirement {
    /// Returns the value of [`headers::REQUIRES`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::PathToken => "path_token",
            Self::Signature => "signature",
        }
    }
}

const PATH_RULE: &str =
    "must begin with /, must not be /- or begin with /-/, and must be visible ASCII without ? and #";
const HEADER_RULE: &str = "must be a header name in lower case that does not begin with x-edge-";
/// `refuse` is the former name of `reject`.
const UNKNOWN_FIELDS: [(&str, UnknownFields); 3] =
    [("pass", UnknownFields::Pass), ("reject", UnknownFields::Reject), ("refuse", UnknownFields::Reject)];
/// `refuse` is the former name of `reject`.
const UNKNOWN_EVENTS: [(&str, UnknownEvents); 3] =
    [("reject", UnknownEvents::Reject), ("refuse", UnknownEvents::Reject), ("quarantine", UnknownEvents::Quarantine)];

impl Policy {
    /// The only accepted audience.
    pub const AUDIENCE: &str = "partner";
    /// The prefix of the paths that guardctl uses. A webhook cannot have such a path, and Envoy
    /// answers 404 to such requests from outside.
    pub const RESERVED_PATH: &str = "/-/";
    /// The path at which the filter answers with its build and with what the policy requires, under
    /// every policy. The answer is a `not_found`.
    pub const PROBE_PATH: &str = "/-/guardctl";
    /// The path at which guardctl asks the backend whether it knows the proof. The filter marks the
    /// request as [`Mark::Probe`](headers::Mark).
    pub const PROVE_PATH: &str = "/-/guardctl/prove";
    /// The highest `max_depth`: the JSON reader uses one bit of a word for each open object or
    /// array.
    pub const DEPTH_LIMIT: u32 = 64;
    /// The highest `max_body_bytes`: the size of Envoy's buffer in the bootstrap.
    pub const BODY_LIMIT: u32 = 32 * 1024;

    /// Reads a policy. Settings that are not given have their defaults.
    ///
    /// # Errors
    /// Returns the first setting that is unknown or has an invalid value.
    pub fn read(mut table: Table<'_>) -> Result<Self, SettingsError> {
        let default = Self::default();

        let authenticity = table.table("authenticity")?.map(Authenticity::read).transpose()?;
        let (authenticity, superseded) = authenticity.unwrap_or_default();
        let policy = Self {
            path: table.text("path", PATH_RULE, is_path)?.unwrap_or(default.path),
            max_body_bytes: table
                .number("max_body_bytes", 1..=Self::BODY_LIMIT)?
                .map_or(default.max_body_bytes, |bytes| bytes as usize),
            max_depth: table.number("max_depth", 2..=Self::DEPTH_LIMIT)?.unwrap_or(default.max_depth),
            audience_header: table
                .text("audience_header", HEADER_RULE, is_foreign_header)?
                .unwrap_or(default.audience_header),
            audience: table
                .choice("audience", &[("optional", Statement::Optional), ("required", Statement::Required)])?
                .unwrap_or(default.audience),
            clock_skew_seconds: table.number("clock_skew_seconds", 0..=u32::MAX)?.unwrap_or(default.clock_skew_seconds),
            unknown_fields: table.choice("unknown_fields", &UNKNOWN_FIELDS)?.unwrap_or(default.unknown_fields),
            unknown_events: table.choice("unknown_events", &UNKNOWN_EVENTS)?.unwrap_or(default.unknown_events),
            disabled_features: table
                .list(
                    "disabled_features",
                    "must be a list of classification, extraction, forensics and translation",
                    0..=4,
                    Feature::parse,
                )?
                .unwrap_or_default(),
            authenticity,
            superseded,
            mode: table
                .choice("mode", &[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)])?
                .unwrap_or(default.mode),
        };
        table.end()?;
        Ok(policy)
    }

    /// Returns the accepted kinds of authenticity, the current one first.
    pub fn ways(&self) -> impl Iterator<Item = (Way, &Authenticity)> {
        let superseded = self.superseded.iter().map(|superseded| (Way::Superseded, superseded));
        std::iter::once((Way::Current, &self.authenticity)).chain(superseded)
    }

    /// Returns what every request must show to pass the filter.
    pub fn requirement(&self) -> Requirement {
        let accepts_anyone = self.ways().any(|(_, way)| matches!(way, Authenticity::None));
        match &self.authenticity {
            _ if accepts_anyone || self.mode == Mode::Shadow => Requirement::Nothing,
            Authenticity::StandardWebhooks { .. } => Requirement::Signature,
            Authenticity::PathToken { .. } | Authenticity::None => Requirement::PathToken,
        }
    }

    /// Returns `path` with its token, valid or not, replaced by `-`, or none if it cannot contain
    /// one. The result is safe to log.
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

/// Whether `name` is a header name in lower case without the edge's prefix.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_way_does_not_require_is_not_required() {
        let none = r#""kind":"none""#;
        let token = r#""kind":"path_token","tokens":["0123456789abcdef"]"#;
        let signature = r#""kind":"standard_webhooks","secrets":["whsec_c2ltdWxhdG9yLWFuZC1iYWNrZW5kLXNoYXJlLWl0"]"#;
        for (current, superseded, mode, expected) in [
            (none, None, "enforce", Requirement::Nothing),
            (token, None, "enforce", Requirement::PathToken),
            (token, None, "shadow", Requirement::Nothing),
            (token, Some(none), "enforce", Requirement::Nothing),
            (token, Some(signature), "enforce", Requirement::PathToken),
            (signature, None, "enforce", Requirement::Signature),
            (signature, Some(token), "enforce", Requirement::Signature),
            (signature, Some(none), "enforce", Requirement::Nothing),
            (none, Some(token), "enforce", Requirement::Nothing),
        ] {
            let or = superseded.map(|superseded| format!(r#","or":{{{superseded}}}"#)).unwrap_or_default();
            let settings = format!(r#"{{"mode":"{mode}","authenticity":{{{current}{or}}}}}"#);
            let policy = Policy::read(Table::parse(settings.as_bytes()).unwrap()).unwrap();
            assert_eq!(policy.requirement(), expected, "{settings}");
        }
    }
}
