//! Who may do what: the host that a request names, its credentials, and whether it comes from the
//! console's own pages. Pure functions of the request.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{self, Credential, Role};

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    /// The name under which actions are logged.
    pub(super) name: String,
    /// What the visitor may do.
    pub(super) role: Role,
}

impl Visitor {
    /// Somebody whose request is rejected.
    pub(super) fn stranger() -> Self {
        Self { name: String::new(), role: Role::View }
    }

    /// Whether the visitor may change something.
    pub(super) fn may_operate(&self) -> bool {
        self.role == Role::Operate
    }
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// It is for another host. A page of a stranger whose name resolves to this machine could
    /// otherwise read the console.
    WrongHost,
    /// It has no credentials, or wrong ones.
    Unauthenticated,
    /// It would change something, and another site's page may have caused it.
    CrossSite,
    /// The visitor's role does not allow it.
    NotAllowed,
}

/// The rules of one console.
pub(super) struct Access {
    /// Names of the console besides loopback addresses, in small letters, with or without a port.
    hosts: Vec<String>,
    credentials: Vec<Credential>,
}

/// Where forms are sent that change nothing: they are sent as a POST to keep what they contain out of
/// URLs, and therefore out of logs.
pub(super) const SEARCHES: [&str; 2] = ["/events/search", "/events/ask"];
/// Who the visitor is if no credentials are configured, which is possible on loopback only.
const ANYBODY: &str = "anybody on this machine";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Access {
    /// Returns the rules of the configured console.
    ///
    /// # Errors
    /// If the credentials are invalid.
    pub(super) fn of(settings: &config::Console) -> Result<Self, String> {
        Ok(Self::new(&format!("{} {}", settings.listen, settings.hosts), settings.credentials()?))
    }

    /// Returns the rules for a console that is reached under `hosts`, separated by white space.
    fn new(hosts: &str, credentials: Vec<Credential>) -> Self {
        Self { hosts: hosts.split_whitespace().map(str::to_ascii_lowercase).collect(), credentials }
    }

    /// Returns who sent a request, if that visitor may make it.
    ///
    /// # Errors
    /// Returns the first reason to reject it.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Visitor, Denied> {
        let host = host(uri, headers).filter(|host| self.is_own(host)).ok_or(Denied::WrongHost)?;
        let visitor = self.visitor(headers).ok_or(Denied::Unauthenticated)?;
        let is_safe = method == Method::GET || method == Method::HEAD;
        if !is_safe && !is_same_origin(&host, headers) {
            return Err(Denied::CrossSite);
        }
        let is_search = method == Method::POST && SEARCHES.contains(&uri.path());
        let needed = if is_safe || is_search { Role::View } else { Role::Operate };
        if visitor.role >= needed { Ok(visitor) } else { Err(Denied::NotAllowed) }
    }

    fn is_own(&self, host: &str) -> bool {
        let name = without_port(host);
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()) || self.hosts.iter().any(|own| own == host)
    }

    fn visitor(&self, headers: &HeaderMap) -> Option<Visitor> {
        if self.credentials.is_empty() {
            return Some(Visitor { name: ANYBODY.to_owned(), role: Role::Operate });
        }
        let (name, token) = shown(only(headers, &header::AUTHORIZATION)?)?;
        let hash = Sha256::digest(&token);
        // Every entry is compared, and a comparison takes the same time whatever it finds.
        let mut found = None;
        for credential in &self.credentials {
            let is_token = bool::from(credential.hash.ct_eq(&hash));
            let is_name = name.as_ref().is_none_or(|name| *name == credential.name);
            if is_token && is_name {
                found = Some(Visitor { name: credential.name.clone(), role: credential.role });
            }
        }
        found
    }
}

/// The name, with basic credentials, and the token of a header `authorization`.
fn shown(authorization: &str) -> Option<(Option<String>, Vec<u8>)> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, value.trim().as_bytes().to_vec()));
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(value.trim()).ok())??;
    let text = String::from_utf8(decoded).ok()?;
    let (name, token) = text.split_once(':')?;
    Some((Some(name.to_owned()), token.as_bytes().to_vec()))
}

/// The host that a request names, in small letters. With HTTP/2 or a full URL in the request line,
/// it stands in the URI, and must then agree with a header.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let in_uri = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    if in_uri.is_some() && !headers.contains_key(header::HOST) {
        return in_uri;
    }
    let in_header = only(headers, &header::HOST)?.to_ascii_lowercase();
    in_uri.is_none_or(|host| host == in_header).then_some(in_header)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether one of the console's own pages has caused a request. A browser says so in
/// `sec-fetch-site`, or, over plain HTTP and if it is older, in `origin`. Without either, no.
fn is_same_origin(host: &str, headers: &HeaderMap) -> bool {
    if headers.contains_key(SEC_FETCH_SITE) {
        return only(headers, &SEC_FETCH_SITE) == Some("same-origin");
    }
    let origin = only(headers, &header::ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(scheme, origin)| matches!(scheme, "http" | "https") && origin.eq_ignore_ascii_case(host))
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_none() { value.to_str().ok() } else { None }
}

#[cfg(test)]
mod tests;
