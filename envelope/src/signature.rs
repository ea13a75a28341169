//! Signatures per the Standard Webhooks specification: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// A key that makes and verifies signatures.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// A signature in progress, of a body that is not complete yet.
pub struct Signing(Hmac<Sha256>);

/// The error of [`SigningKey::parse`]: the text is not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSecret;

/// The highest number of signatures of one request that are verified. A sender that changes its
/// secret sends two.
const MOST_SIGNATURES: usize = 8;

impl SigningKey {
    /// Reads a secret: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// If the text does not have this format.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let bytes =
            secret.strip_prefix("whsec_").and_then(|base64| STANDARD.decode(base64).ok()).ok_or(InvalidSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| InvalidSecret)
    }

    /// Returns the value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut signing = self.begin(id, timestamp);
        signing.update(body);
        signing.finish()
    }

    /// Begins a signature of a body that is given piece by piece.
    pub fn begin(&self, id: &str, timestamp: u64) -> Signing {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        Signing(mac)
    }

    /// Whether this key made one of `signatures`, which are separated by spaces. Takes the same
    /// time wherever they differ.
    pub(crate) fn verifies(&self, prefix: &[u8], body: &[u8], signatures: &[u8]) -> Choice {
        let expected = STANDARD.encode(self.mac(prefix, body));
        let versioned = signatures.split(|&byte| byte == b' ').take(MOST_SIGNATURES);
        let candidates = versioned.filter_map(|signature| signature.strip_prefix(b"v1,"));
        candidates.fold(Choice::from(0), |found, candidate| found | candidate.ct_eq(expected.as_bytes()))
    }

    fn mac(&self, prefix: &[u8], body: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(prefix);
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

impl Signing {
    /// Adds the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the value of `webhook-signature`.
    pub fn finish(self) -> String {
        format!("v1,{}", STANDARD.encode(self.0.finalize().into_bytes()))
    }
}

/// Does not show the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret must be `whsec_` and 24 to 64 bytes in base64")
    }
}

impl std::error::Error for InvalidSecret {}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signatures_equal_those_of_the_reference_implementation() {
        let key = SigningKey::parse(SECRET).unwrap();
        let reference = Webhook::new(SECRET).unwrap();
        for length in [0, 1, 55, 56, 63, 64, 65, 1_000] {
            let body: Vec<u8> = (0..length).map(|number: u32| number.to_le_bytes()[0]).collect();
            // The reference implementation signs text only.
            let body: Vec<u8> = body.into_iter().map(|byte| byte & 0x7f).collect();
            let id = format!("msg_{length}");
            let theirs = reference.sign(&id, 1_767_225_600, &body).unwrap();
            assert_eq!(key.sign(&id, 1_767_225_600, &body), theirs);
            let prefix = format!("{id}.1767225600.");
            let verifies = |body: &[u8], signatures: &str| {
                bool::from(key.verifies(prefix.as_bytes(), body, signatures.as_bytes()))
            };
            assert!(verifies(&body, &theirs));
            assert!(verifies(&body, &format!("v1a,x v1,AAAA {theirs}")));
            assert!(!verifies(b"other", &theirs));
            assert!(!verifies(&body, &theirs.replace("v1,", "v2,")));
            assert!(!verifies(&body, &theirs[..theirs.len() - 1]));
            assert!(!verifies(&body, ""));
        }
    }

    #[test]
    fn invalid_secrets_are_rejected() {
        for secret in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!!!"] {
            assert!(SigningKey::parse(secret).is_err(), "{secret}");
        }
    }
}
