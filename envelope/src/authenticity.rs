//! Whether a request comes from the expected sender.
//!
//! TruEnroll documents no signature, so the default requires nothing. A path token works with any
//! sender that can be given a URL; a signature needs a sender, or a proxy in front of the edge,
//! that signs.

use subtle::{Choice, ConstantTimeEq};

use crate::{
    SigningKey, Timestamp,
    problem::{Code, Rejection},
    settings::{SettingsError, Table},
};

/// What a request must show.
#[derive(Debug, Clone, Default)]
pub enum Authenticity {
    /// Nothing.
    #[default]
    None,
    /// A token as the last segment of the path. Any other path is `not_found`.
    PathToken {
        /// The accepted tokens, each 16 to 128 characters of `A-Z a-z 0-9 _ -`. Several, for
        /// rotation.
        tokens: Vec<String>,
    },
    /// A signature per the Standard Webhooks specification.
    StandardWebhooks {
        /// The accepted keys. Several, for rotation.
        secrets: Vec<SigningKey>,
        /// How far `webhook-timestamp` may differ from the filter's clock, in seconds.
        tolerance_seconds: u32,
    },
}

/// Which of a policy's kinds of authenticity a request satisfies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The current kind.
    Current,
    /// The kind that is still accepted while senders change to the current one.
    Superseded,
}

/// The evidence in the headers, as far as it can be checked without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The signature to verify when the body is complete, and the way that requires it.
    pub(crate) signed: Option<(Signed, Way)>,
    /// The way that the request satisfies without a signature.
    pub(crate) unsigned: Option<Way>,
}

/// The headers of a signature, as far as the request has them.
pub(crate) struct SignatureHeaders<'a> {
    pub(crate) id: Option<&'a [u8]>,
    pub(crate) timestamp: Option<&'a [u8]>,
    /// One or more signatures, separated by spaces.
    pub(crate) signatures: Option<&'a [u8]>,
}

/// A signature to verify when the body is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signed text before the body: `id.timestamp.`.
    prefix: Vec<u8>,
    signatures: Vec<u8>,
}

impl Authenticity {
    /// The highest number of tokens or secrets that are accepted at the same time.
    pub const MOST_LIVE: usize = 4;

    /// Whether `path` is the webhook's, including the token if one is required.
    pub(crate) fn is_webhook(&self, path: &[u8], webhook: &[u8]) -> bool {
        let Self::PathToken { tokens } = self else { return path == webhook };
        let Some(shown) = path.strip_prefix(webhook).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
        tokens.iter().fold(Choice::from(0), |found, token| found | token.as_bytes().ct_eq(shown)).into()
    }

    /// Whether this kind requires a signature.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(self, Self::StandardWebhooks { .. })
    }

    /// Reads the signature from the headers, and checks its time.
    pub(crate) fn signed(
        &self,
        headers: &SignatureHeaders<'_>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Signed, Rejection> {
        let missing = Rejection::new(Code::MissingSignature);
        let Self::StandardWebhooks { tolerance_seconds, .. } = self else { return Err(missing) };
        let id = headers.id.ok_or(missing)?;
        let timestamp = headers.timestamp.ok_or(missing)?;
        let signatures = headers.signatures.ok_or(missing)?;
        let seconds: i64 = std::str::from_utf8(timestamp)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or(Rejection::new(Code::InvalidSignature))?;
        if seconds.abs_diff(now().unix_seconds()) > u64::from(*tolerance_seconds) {
            return Err(Rejection::new(Code::StaleTimestamp));
        }
        let prefix = [id, b".", timestamp, b"."].concat();
        Ok(Signed { prefix, signatures: signatures.to_vec() })
    }

    /// Whether one of the keys signed the body.
    pub(crate) fn verifies(&self, Signed { prefix, signatures }: &Signed, body: &[u8]) -> bool {
        let Self::StandardWebhooks { secrets, .. } = self else { return false };
        let verify = |found, key: &SigningKey| found | key.verifies(prefix, body, signatures);
        secrets.iter().fold(Choice::from(0), verify).into()
    }

    /// Reads the settings: the current kind, and in the table `or` the superseded one.
    pub(crate) fn read(mut table: Table<'_>) -> Result<(Self, Option<Self>), SettingsError> {
        let superseded = table.table("or")?;
        let current = Self::read_one(table)?;
        let Some(superseded) = superseded else { return Ok((current, None)) };
        let error = superseded.error("kind", "must differ from `authenticity.kind`");
        let superseded = Self::read_one(superseded)?;
        let is_same = std::mem::discriminant(&current) == std::mem::discriminant(&superseded);
        if is_same { Err(error) } else { Ok((current, Some(superseded))) }
    }

    /// Reads one kind and its settings.
    fn read_one(mut table: Table<'_>) -> Result<Self, SettingsError> {
        const TOKENS: &str = "must be 1 to 4 tokens, each 16 to 128 characters of A-Z a-z 0-9 _ -";
        const SECRETS: &str = "must be 1 to 4 secrets, each `whsec_` and 24 to 64 bytes in base64";
        let kinds = [("none", 0), ("path_token", 1), ("standard_webhooks", 2)];
        let kind = table.choice("kind", &kinds)?.ok_or_else(|| table.error("kind", "is missing"))?;
        let live = 1..=Self::MOST_LIVE;
        let read = match kind {
            0 => Self::None,
            1 => {
                let tokens = table.list("tokens", TOKENS, live, |token| is_token(token).then(|| token.to_owned()))?;
                Self::PathToken { tokens: tokens.ok_or_else(|| table.error("tokens", TOKENS))? }
            }
            _ => {
                let secrets = table.list("secrets", SECRETS, live, |secret| SigningKey::parse(secret).ok())?;
                let secrets = secrets.ok_or_else(|| table.error("secrets", SECRETS))?;
                let tolerance_seconds = table.number("tolerance_seconds", 0..=u32::MAX)?.unwrap_or(DEFAULT_TOLERANCE);
                Self::StandardWebhooks { secrets, tolerance_seconds }
            }
        };
        table.end()?;
        Ok(read)
    }
}

/// The default of `tolerance_seconds`.
const DEFAULT_TOLERANCE: u32 = 300;

fn is_token(token: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (16..=128).contains(&token.len()) && token.bytes().all(is_token_byte)
}
