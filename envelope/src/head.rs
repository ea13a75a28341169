//! What the decision takes from a request's headers.

use crate::{
    Authenticity, Policy, Timestamp,
    authenticity::Signed,
    headers,
    problem::{Code, Refusal},
};

/// The headers that decide, taken in one pass. Values are bytes: nothing makes a client send UTF-8.
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
    reserved: bool,
}

/// What good headers say that the body is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The audience that they state.
    pub audience: Audience,
    /// The signature that they bring, where one is asked for.
    pub signed: Option<Signed>,
}

/// Which audience a request's headers state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// None: what TruEnroll documents.
    #[default]
    Unstated,
    /// Partners.
    Partner,
    /// Anyone else.
    Other,
}

impl<'a> Head<'a> {
    /// Collects the head from names in lower case, HTTP/2's pseudo-headers (`:method`, `:path`) among them.
    pub fn read(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, policy: &Policy) -> Self {
        let mut head = Self::default();
        let signed = matches!(policy.authenticity, Authenticity::StandardWebhooks { .. });
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
                b"webhook-id" if signed => &mut head.webhook_id,
                b"webhook-timestamp" if signed => &mut head.webhook_timestamp,
                b"webhook-signature" if signed => &mut head.webhook_signature,
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

    /// Whether the client sent headers that only the edge may set.
    pub fn has_reserved(&self) -> bool {
        self.reserved
    }

    /// The request's path and query.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    fn audience(&self) -> Audience {
        match self.audience {
            None => Audience::Unstated,
            Some(stated) if stated == Policy::AUDIENCE.as_bytes() => Audience::Partner,
            Some(_) => Audience::Other,
        }
    }

    /// Everything that can be said before the body comes. `now` is asked for the time only where the answer depends on it.
    ///
    /// # Errors
    /// The first reason to refuse, in the order of [`Code::ALL`].
    pub fn check(&self, policy: &Policy, now: impl FnOnce() -> Timestamp) -> Result<Claims, Refusal> {
        let path = self.path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let refuse = |code| Err(Refusal::new(code));
        if !policy.authenticity.is_webhook(path, policy.path.as_bytes()) {
            return refuse(Code::NotFound);
        }
        if self.method != b"POST" {
            return refuse(Code::MethodNotAllowed);
        }
        let deciding = [self.content_type, self.content_encoding];
        if self.repeated || deciding.into_iter().flatten().any(is_list) {
            return refuse(Code::DuplicateHeader);
        }
        if !self.content_type.is_some_and(is_json) {
            return refuse(Code::UnsupportedMediaType);
        }
        if self.content_encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return refuse(Code::UnsupportedContentEncoding);
        }
        if self.content_length.and_then(length).is_some_and(|length| length > policy.max_body_bytes) {
            return refuse(Code::PayloadTooLarge);
        }
        let (id, timestamp, signature) = (self.webhook_id, self.webhook_timestamp, self.webhook_signature);
        let signed = policy.authenticity.signed(id, timestamp, signature, now)?;
        Ok(Claims { audience: self.audience(), signed })
    }
}

/// Whether a value is a list. Envoy joins the values of some headers that were sent twice with a comma.
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

/// The length, or nothing where it is no number: HTTP itself refuses such a request, and the body is counted anyway.
fn length(content_length: &[u8]) -> Option<usize> {
    std::str::from_utf8(content_length).ok()?.parse().ok()
}
