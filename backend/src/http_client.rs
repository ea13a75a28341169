//! What all HTTP clients of the backend share: TLS, timeouts, the check of configured URLs, and the
//! reading of `Retry-After`.

use std::{error::Error, time::Duration};

pub use reqwest::Url;
#[cfg(test)]
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{
    Client, ClientBuilder, Response,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::tls;

/// Longest time to wait for a connection, however long a request may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a client builder with TLS prepared, `timeout` set for each request, and retries off.
pub fn builder(timeout: Duration) -> ClientBuilder {
    tls::prepare();
    Client::builder()
        .timeout(timeout)
        // The callers retry and count their attempts themselves. Without the 0, reqwest would also
        // copy each request in case it had to be retried.
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .user_agent(concat!("truenroll-edge/", env!("CARGO_PKG_VERSION")))
}

/// Returns a client for the exporter of traces, which runs on a thread of its own. It follows no
/// redirects, since its requests contain event keys and perhaps a token.
///
/// # Errors
/// If it cannot be built.
#[cfg(feature = "otlp")]
pub fn blocking(timeout: Duration) -> anyhow::Result<reqwest::blocking::Client> {
    tls::prepare();
    let client = reqwest::blocking::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .redirect(reqwest::redirect::Policy::none());
    // A thread of a runtime must not block, and building the client does.
    let built = std::thread::spawn(|| client.build()).join();
    Ok(built.map_err(|_| anyhow::anyhow!("the thread that builds the client has panicked"))??)
}

/// Checks that the backend's HTTP clients can call a URL.
///
/// # Errors
/// Returns what is wrong with the URL, worded to follow the name of the setting.
pub fn check_url(url: &str) -> Result<(), String> {
    let parsed = Url::parse(url).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err("must begin with https:// or http://".to_owned());
    }
    if parsed.password().is_some() {
        return Err("must not contain a password".to_owned());
    }
    Ok(())
}

/// Returns the scheme, host and port of a URL, without what could contain a secret. An ellipsis
/// stands for the rest. Returns `None` if it is not a URL with a host.
pub fn host_of(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok().filter(Url::has_host)?;
    let rest = if parsed.path() == "/" && parsed.query().is_none() { "" } else { "/…" };
    Some(parsed.origin().ascii_serialization() + rest)
}

/// Says why a request got no answer, without the URL.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // reqwest's own messages contain the URL.
    if innermost.is::<reqwest::Error>() { "the request failed".to_owned() } else { innermost.to_string() }
}

/// An answer to [`get`].
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body.
    pub(crate) body: Vec<u8>,
}

impl Got {
    /// Returns an answer for a test, with one header or none.
    #[cfg(test)]
    pub(crate) fn with_header(name: &'static str, value: Option<&str>) -> Self {
        let header = |value| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        Self { headers: value.map(header).into_iter().collect(), ..Self::default() }
    }

    /// Returns a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Gets a page of another program of this installation, which is not behind a proxy. Reads at most
/// about `limit` bytes of it.
///
/// # Errors
/// Says why there is no answer, without the URL.
pub(crate) async fn get(url: &str, timeout: Duration, limit: usize) -> Result<Got, String> {
    let client = builder(timeout).no_proxy().build().map_err(|error| reason(&error))?;
    let response = client.get(url).send().await.map_err(|error| reason(&error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Got { status, headers, body: read_up_to(response, limit).await })
}

/// Reads the beginning of a response's body, at most about `limit` bytes. Ends early if the
/// connection breaks.
async fn read_up_to(mut response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() >= limit {
            break;
        }
    }
    body
}

/// Returns the wait that a response asks for in `Retry-After`, if it is given in seconds. The other
/// form, a date, is ignored: it would depend on two clocks.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    whole_seconds(value)
}

/// Parses a number of seconds. One that does not fit becomes the longest possible wait.
fn whole_seconds(text: &str) -> Option<Duration> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_however_long_it_is() {
        let longest = Duration::from_secs(u64::MAX);
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            (" 120 ", Some(Duration::from_secs(120))),
            ("18446744073709551615", Some(longest)),
            ("99999999999999999999999", Some(longest)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None, "without the header");
    }

    #[test]
    fn a_url_is_shown_without_what_could_be_a_secret() {
        for (url, shown) in [
            ("https://application.example", Some("https://application.example")),
            ("https://application.example:8443/", Some("https://application.example:8443")),
            ("https://user@application.example/hooks/token?key=value", Some("https://application.example/…")),
            ("http://[::1]:9902/?key=value", Some("http://[::1]:9902/…")),
            ("mailto:somebody", None),
            ("", None),
        ] {
            assert_eq!(host_of(url).as_deref(), shown, "{url}");
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_failed_request_does_not_contain_its_url() {
        let client = builder(Duration::from_secs(1)).no_proxy().build().unwrap();
        let refused = client.get("http://127.0.0.1:1/token").send().await.unwrap_err();
        let reason = reason(&refused);
        assert!(reason.contains("refused") && !reason.contains("token"), "{reason}");
    }

    #[test]
    fn only_http_urls_without_a_password_can_be_called() {
        for url in ["https://api.example.com/v1", "http://127.0.0.1:8080", "http://[::1]/", "https://user@host/"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for (url, problem) in [
            ("", "not a URL"),
            ("api.example.com", "not a URL"),
            ("ftp://host/", "must begin with https:// or http://"),
            ("redis://host/", "must begin with https:// or http://"),
            ("https://user:word@host/", "must not contain a password"),
        ] {
            let error = check_url(url).unwrap_err();
            assert!(error.contains(problem), "{url}: {error}");
            assert!(!error.contains("word@"), "{error}");
        }
    }
}
