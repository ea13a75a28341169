//! The golden vectors: requests with their expected verdicts.
//!
//! They are JSON files in `vectors/`, one for each group of checks. They are compiled in, because
//! WebAssembly has no file system. A vector without a policy, method, path or headers has the
//! default.

use serde::Deserialize;

use crate::{
    Head, Policy, Timestamp, Verdict,
    authenticity::Way,
    decide::{Passed, decide},
    problem::Rejection,
    settings::Table,
};

const FILES: [&str; 7] = [
    include_str!("../vectors/head.json"),
    include_str!("../vectors/size.json"),
    include_str!("../vectors/authenticity.json"),
    include_str!("../vectors/json.json"),
    include_str!("../vectors/audience.json"),
    include_str!("../vectors/envelope.json"),
    include_str!("../vectors/event.json"),
];

/// The time of every decision: 2026-01-01T00:00:00Z. The verdicts would be the same a century
/// earlier or later.
pub const NOW: Timestamp = Timestamp::from_unix(1_767_225_600);

/// A request and its expected verdict.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vector {
    /// What is special about the request. Unique over all files.
    pub name: String,
    /// The settings of the policy that differ from their defaults.
    #[serde(default = "no_settings")]
    pub policy: serde_json::Value,
    /// The request's method.
    #[serde(default = "default_method")]
    pub method: String,
    /// The request's path and query.
    #[serde(default = "default_path")]
    pub path: String,
    #[serde(default = "default_headers")]
    headers: Vec<(String, Value)>,
    body: Option<String>,
    body_hex: Option<String>,
    body_repeat: Option<Repeat>,
    accept: Option<Accepted>,
    #[serde(alias = "refuse")]
    reject: Option<Rejected>,
}

/// The verdict on an accepted request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The event's name.
    pub event: String,
    /// The event's case.
    pub case: String,
    /// The event's key.
    pub key: String,
    /// Whether the event is quarantined.
    #[serde(default)]
    pub quarantine: bool,
    /// Whether the request is authentic only in the superseded way.
    #[serde(default)]
    pub superseded: bool,
}

/// The verdict on a rejected request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// The code.
    pub code: String,
    /// The JSON pointer to the invalid field, if there is one.
    pub pointer: Option<String>,
}

/// A header's value: text, or bytes that are not UTF-8.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { hex: String },
}

/// A long body, given as a part that is repeated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    before: String,
    unit: String,
    times: usize,
    after: String,
}

/// Returns all vectors of all files.
///
/// # Errors
/// Returns a message if a file is invalid.
pub fn all() -> Result<Vec<Vector>, String> {
    let mut vectors = Vec::new();
    for file in FILES {
        let group: Vec<Vector> = serde_json::from_str(file).map_err(|error| format!("{error} in {file}"))?;
        vectors.extend(group);
    }
    Ok(vectors)
}

impl Vector {
    /// Returns the request's headers, without the pseudo-headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.headers.iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) => text.clone().into_bytes(),
                Value::Bytes { hex } => unhex(hex),
            };
            (name.as_str(), value)
        })
    }

    /// Returns the request's body.
    pub fn body(&self) -> Vec<u8> {
        if let Some(Repeat { before, unit, times, after }) = &self.body_repeat {
            return format!("{before}{}{after}", unit.repeat(*times)).into_bytes();
        }
        match &self.body_hex {
            Some(hex) => unhex(hex),
            None => self.body.clone().unwrap_or_default().into_bytes(),
        }
    }

    /// Returns the expected verdict.
    ///
    /// # Errors
    /// Returns the expected rejection.
    pub fn expected(&self) -> Result<Accepted, Rejected> {
        match (&self.accept, &self.reject) {
            (Some(accepted), _) => Ok(accepted.clone()),
            (None, Some(rejected)) => Err(rejected.clone()),
            (None, None) => Err(Rejected { code: "the vector states no verdict".into(), pointer: None }),
        }
    }

    /// Returns the verdict of [`decide`].
    ///
    /// # Errors
    /// Returns the rejection, or the error in the vector's policy.
    pub fn decided(&self) -> Result<Accepted, Rejected> {
        let settings = self.policy.to_string();
        let policy = Table::parse(settings.as_bytes()).and_then(Policy::read);
        let policy = policy.map_err(|error| Rejected { code: error.to_string(), pointer: None })?;
        let headers: Vec<_> = self.headers().collect();
        let pseudo =
            [(":method", &self.method), (":path", &self.path)].map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let regular = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let head = Head::read(pseudo.into_iter().chain(regular), &policy);
        match decide(&head, &self.body(), || NOW, &policy) {
            Ok(passed) => Ok(passed.into()),
            Err(rejection) => Err(rejection.into()),
        }
    }
}

impl From<Passed<'_>> for Accepted {
    fn from(Passed { verdict, way }: Passed<'_>) -> Self {
        let (event, case, key) = match &verdict {
            Verdict::Accept(envelope) => (envelope.event.to_string(), &envelope.case_id, envelope.key()),
            Verdict::Quarantine(event) => (event.name.to_string(), &event.case_id, event.key()),
        };
        let quarantine = matches!(verdict, Verdict::Quarantine(_));
        let superseded = way == Way::Superseded;
        Self { event, case: case.to_string(), key: key.to_string(), quarantine, superseded }
    }
}

impl From<Rejection> for Rejected {
    fn from(rejection: Rejection) -> Self {
        Self {
            code: rejection.code.as_str().to_owned(),
            pointer: rejection.field.map(|field| field.pointer().to_owned()),
        }
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    hex.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, &d| byte << 4 | digit(d))).collect()
}

fn no_settings() -> serde_json::Value {
    serde_json::json!({})
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_path() -> String {
    Policy::default().path
}

fn default_headers() -> Vec<(String, Value)> {
    vec![("content-type".to_owned(), Value::Text("application/json".to_owned()))]
}
