//! The request headers that the decision depends on.

use crate::{
    Policy, Timestamp,
    authenticity::{Shown, SignatureHeaders, Way},
    headers,
    problem::{Code, Rejection},
};

/// The headers that the decision depends on, read in one pass. Values are bytes, because a client
/// may send anything.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    method: &'a [u8],
    path: &'a [u8],
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    audience: Option<&'a [u8]>,
    webhook_id: Option<&'a [u8]>,
    webhook_timestamp: Option<&'a [u8]>,
    webhook_signature: Option<&'a [u8]>,
    repeated: bool,
    repeated_signature: bool,
    reserved: bool,
}

/// What valid headers state. The decision about the body depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The stated audience.
    pub audience: Audience,
    /// The evidence of who sent the request.
    pub shown: Shown,
}

/// The audience that a request's headers state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// No audience, which is TruEnroll's documented behaviour.
    #[default]
    Unstated,
    /// Partners.
    Partner,
    /// Anything else.
    Other,
}

impl<'a> Head<'a> {
    /// Reads headers with names in lower case, including the pseudo-headers of HTTP/2 (`:method`,
    /// `:path`).
    pub fn read(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, policy: &Policy) -> Self {
        let mut head = Self::default();
        let signed = policy.ways().any(|(_, authenticity)| authenticity.is_signed());
        for (name, value) in headers {
            let slot = match name {
                b":method" => {
                    head.method = value;
                    continue;
                }
                b":path" => {
                    head.path = value;
                    continue;
                }
                b"content-type" => &mut head.content_type,
                b"content-encoding" => &mut head.content_encoding,
                b"content-length" => &mut head.content_length,
                b"webhook-id" | b"webhook-timestamp" | b"webhook-signature" if signed => {
                    let slot = match name {
                        b"webhook-id" => &mut head.webhook_id,
                        b"webhook-timestamp" => &mut head.webhook_timestamp,
                        _ => &mut head.webhook_signature,
                    };
                    head.repeated_signature |= slot.replace(value).is_some();
                    continue;
                }
                name if name == policy.audience_header.as_bytes() => &mut head.audience,
                name => {
                    head.reserved |= name.starts_with(headers::RESERVED_PREFIX.as_bytes());
                    continue;
                }
            };
            head.repeated |= slot.replace(value).is_some();
        }
        head
    }

    /// Whether the client sent a header that only the edge may set.
    pub fn has_reserved(&self) -> bool {
        self.reserved
    }

    /// Returns the request's path and query.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    fn signature_headers(&self) -> SignatureHeaders<'a> {
        SignatureHeaders { id: self.webhook_id, timestamp: self.webhook_timestamp, signatures: self.webhook_signature }
    }

    fn audience(&self) -> Audience {
        match self.audience {
            None => Audience::Unstated,
            Some(stated) if stated == Policy::AUDIENCE.as_bytes() => Audience::Partner,
            Some(_) => Audience::Other,
        }
    }

    /// Checks everything that does not depend on the body. Calls `now` only if the result depends
    /// on the time.
    ///
    /// # Errors
    /// Returns the first rejection, in the order of [`Code::ALL`].
    pub fn check(&self, policy: &Policy, now: impl FnOnce() -> Timestamp) -> Result<Claims, Rejection> {
        let path = self.path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let reject = |code| Err(Rejection::new(code));
        let mut ways = policy.ways().filter(|(_, way)| way.is_webhook(path, policy.path.as_bytes()));
        let first = ways.next();
        let second = ways.next();
        let ways = [first, second].into_iter().flatten();
        let unsigned = ways.clone().find_map(|(way, authenticity)| (!authenticity.is_signed()).then_some(way));
        if first.is_none() {
            return reject(Code::NotFound);
        }
        if self.method != b"POST" {
            return reject(Code::MethodNotAllowed);
        }
        let may_be_joined = [self.content_type, self.content_encoding];
        let is_repeated = self.repeated || self.repeated_signature && unsigned.is_none();
        if is_repeated || may_be_joined.into_iter().flatten().any(is_list) {
            return reject(Code::DuplicateHeader);
        }
        if !self.content_type.is_some_and(is_json) {
            return reject(Code::UnsupportedMediaType);
        }
        if self.content_encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return reject(Code::UnsupportedContentEncoding);
        }
        if self.content_length.and_then(length).is_some_and(|length| length > policy.max_body_bytes) {
            return reject(Code::PayloadTooLarge);
        }
        let signing = ways.into_iter().find(|(_, authenticity)| authenticity.is_signed());
        // If the request satisfies the current way without a signature, the signature is
        // irrelevant.
        let signed = match signing.filter(|_| unsigned != Some(Way::Current)) {
            None => None,
            Some((way, authenticity)) => match authenticity.signed(&self.signature_headers(), now) {
                Ok(signed) if !self.repeated_signature => Some((signed, way)),
                Err(rejection) if unsigned.is_none() => return Err(rejection),
                _ => None,
            },
        };
        Ok(Claims { audience: self.audience(), shown: Shown { signed, unsigned } })
    }
}

/// Whether a value is a list. If some headers are sent twice, Envoy joins their values with a
/// comma.
fn is_list(value: &[u8]) -> bool {
    let mut quoted = false;
    value.iter().any(|&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    })
}

fn is_json(content_type: &[u8]) -> bool {
    if content_type == b"application/json" {
        return true;
    }
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Returns the length, or none if it is not a number: Envoy rejects such a request, and the filter
/// counts the body's bytes anyway.
fn length(content_length: &[u8]) -> Option<usize> {
    std::str::from_utf8(content_length).ok()?.parse().ok()
}
