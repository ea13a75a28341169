//! What the decision takes from a request's headers.

use crate::{
    Policy, Timestamp,
    authenticity::{Shown, Way},
    headers,
    problem::{Code, Rejection},
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
    repeated_signature: bool,
    reserved: bool,
}

/// What good headers say that the body is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The audience that they state.
    pub audience: Audience,
    /// What they show of the sender.
    pub shown: Shown,
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
    pub fn check(&self, policy: &Policy, now: impl FnOnce() -> Timestamp) -> Result<Claims, Rejection> {
        let path = self.path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let refuse = |code| Err(Rejection::new(code));
        let mut ways = policy.ways().filter(|(_, way)| way.is_webhook(path, policy.path.as_bytes()));
        let (first, second) = (ways.next(), ways.next());
        let ways = [first, second].into_iter().flatten();
        let unsigned = ways.clone().find_map(|(way, authenticity)| (!authenticity.is_signed()).then_some(way));
        if first.is_none() {
            return refuse(Code::NotFound);
        }
        if self.method != b"POST" {
            return refuse(Code::MethodNotAllowed);
        }
        let deciding = [self.content_type, self.content_encoding];
        let is_repeated = self.repeated || self.repeated_signature && unsigned.is_none();
        if is_repeated || deciding.into_iter().flatten().any(is_list) {
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
        let signing = ways.into_iter().find(|(_, authenticity)| authenticity.is_signed());
        // A signature decides nothing where the current way is satisfied without one.
        let signed = match signing.filter(|_| unsigned != Some(Way::Current)) {
            None => None,
            Some((way, authenticity)) => match authenticity.signed(id, timestamp, signature, now) {
                Ok(signed) if !self.repeated_signature => Some((signed, way)),
                Err(rejection) if unsigned.is_none() => return Err(rejection),
                _ => None,
            },
        };
        Ok(Claims { audience: self.audience(), shown: Shown { signed, unsigned } })
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
