//! Whether a request comes from who it should.
//!
//! TruEnroll documents no signature, so the default asks for nothing. The two others are for a sender, or something in
//! front of the edge, that can do more.

use subtle::{Choice, ConstantTimeEq};

use crate::{
    SigningKey, Timestamp,
    problem::{Code, Rejection},
    settings::{SettingsError, Table},
};

/// What a request has to show.
#[derive(Debug, Clone, Default)]
pub enum Authenticity {
    /// Nothing.
    #[default]
    None,
    /// One of these as the last segment of its path. Any other path is not found.
    PathToken {
        /// The tokens, 16 to 128 of `A-Z a-z 0-9 _ -` each. Several, so that a new one can be brought in.
        tokens: Vec<String>,
    },
    /// A signature after the Standard Webhooks specification.
    StandardWebhooks {
        /// The keys of which one must have made the signature. Several, so that a new one can be brought in.
        secrets: Vec<SigningKey>,
        /// How far `webhook-timestamp` may be from our clock, in seconds.
        tolerance_seconds: u32,
    },
}

/// Which of a policy's ways to be authentic a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The one that is asked for.
    Current,
    /// The one that is still accepted besides, while senders change to the current one.
    Superseded,
}

/// What the headers show, as far as the way is open without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The signature to check once the body is there, and the way that asks for it.
    pub(crate) signed: Option<(Signed, Way)>,
    /// The way that the headers satisfy without a signature.
    pub(crate) unsigned: Option<Way>,
}

/// A signature that is to be checked once the body is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `id.timestamp.`, which goes before the body.
    prefix: Vec<u8>,
    signatures: Vec<u8>,
}

impl Authenticity {
    /// The most tokens or secrets that may be live at the same time.
    pub const MOST_LIVE: usize = 4;

    /// Whether `path` is the webhook's.
    pub(crate) fn is_webhook(&self, path: &[u8], webhook: &[u8]) -> bool {
        let Self::PathToken { tokens } = self else { return path == webhook };
        let Some(shown) = path.strip_prefix(webhook).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
        tokens.iter().fold(Choice::from(0), |found, token| found | token.as_bytes().ct_eq(shown)).into()
    }

    /// Whether it asks for a signature.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(self, Self::StandardWebhooks { .. })
    }

    /// Takes the signature from the headers, and checks its time.
    pub(crate) fn signed(
        &self,
        id: Option<&[u8]>,
        timestamp: Option<&[u8]>,
        signatures: Option<&[u8]>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Signed, Rejection> {
        let (Some(id), Some(timestamp), Some(signatures), Self::StandardWebhooks { tolerance_seconds, .. }) =
            (id, timestamp, signatures, self)
        else {
            return Err(Rejection::new(Code::MissingSignature));
        };
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

    /// Whether one of the keys has signed the body.
    pub(crate) fn verifies(&self, Signed { prefix, signatures }: &Signed, body: &[u8]) -> bool {
        let Self::StandardWebhooks { secrets, .. } = self else { return false };
        let verify = |found, key: &SigningKey| found | key.verifies(prefix, body, signatures);
        secrets.iter().fold(Choice::from(0), verify).into()
    }

    /// Reads the settings: what is asked for, and in the table `or` what is accepted besides.
    pub(crate) fn read(mut table: Table<'_>) -> Result<(Self, Option<Self>), SettingsError> {
        let superseded = table.table("or")?;
        let current = Self::read_one(table)?;
        let Some(superseded) = superseded else { return Ok((current, None)) };
        let error = superseded.error("kind", "must not be the kind that it is an alternative to");
        let superseded = Self::read_one(superseded)?;
        let is_same = std::mem::discriminant(&current) == std::mem::discriminant(&superseded);
        if is_same { Err(error) } else { Ok((current, Some(superseded))) }
    }

    /// Reads which kind, and what that kind needs.
    fn read_one(mut table: Table<'_>) -> Result<Self, SettingsError> {
        const TOKENS: &str = "must be 1 to 4 tokens, each 16 to 128 of A-Z a-z 0-9 _ -";
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
                let tolerance_seconds = table.number("tolerance_seconds", 0..=u32::MAX)?.unwrap_or(USUAL_TOLERANCE);
                Self::StandardWebhooks { secrets, tolerance_seconds }
            }
        };
        table.end()?;
        Ok(read)
    }
}

/// How far `webhook-timestamp` may be from our clock, in seconds, where no setting says otherwise.
const USUAL_TOLERANCE: u32 = 300;

fn is_token(token: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (16..=128).contains(&token.len()) && token.bytes().all(is_token_byte)
}
