//! Sends the requests of `guardctl verify`.

use std::{
    fmt,
    io::Cursor,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use envelope::{Timestamp, headers};
use serde_json::Value;
use ureq::{
    SendBody,
    http::{HeaderMap, Request, request},
    tls::{RootCerts, TlsConfig},
};

use super::{Check, TEST_CASE, Target};

/// What the edge answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `x-edge-build`, which the filter and the backend set.
    pub build: Option<String>,
    /// The header `x-edge-rejection`.
    pub rejection: Option<String>,
    /// The header `x-edge-shadow`.
    pub shadow: Option<String>,
    /// The header `x-edge-event-key`.
    pub event_key: Option<String>,
    /// The member `code` of a JSON body.
    pub code: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection could be made.
    NoConnection(String),
    /// The time limit passed.
    Timeout,
    /// The connection failed before the answer was complete.
    Broken(String),
}

/// A body that is not JSON.
const MALFORMED: &str = r#"{"eventName":"#;
/// An event without its documented fields. The filter rejects it under every policy: its audience
/// is stated, and a missing field is reported before an unknown event, which a policy may let pass.
const INCOMPLETE: &str = r#"{"audience":"partner","eventName":"guardctl.verify","payload":{}}"#;
/// A judgement that no filter has made.
const FORGED: &str = "forged-by-guardctl-verify;forged;accepted";
/// The most bytes of an answer's body that are read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Sends the request of a check, on a connection of its own.
pub(super) fn send(target: &Target, check: &Check) -> Result<Answer, NoAnswer> {
    if *check == Check::Trailers {
        return send_with_trailers(target);
    }
    let agent = agent(target.timeout);
    if !check.has_body() {
        return read(agent.get(url(target, check)).call());
    }
    let body = body(check);
    let mut request = Request::post(url(target, check));
    if !check.is_elsewhere() {
        request = webhook_headers(request, target, &body);
    }
    if *check == Check::ForgedJudgement {
        request = request.header(headers::JUDGED, FORGED);
    }
    if *check == Check::ChunkedBody {
        let mut reader = Cursor::new(body.as_bytes());
        // ureq chunks a body of unknown length.
        return run(&agent, request, SendBody::from_reader(&mut reader));
    }
    run(&agent, request, body.as_bytes())
}

fn run(agent: &ureq::Agent, request: request::Builder, body: impl ureq::AsSendBody) -> Result<Answer, NoAnswer> {
    let request = request.body(body).map_err(|error| NoAnswer::Broken(error.to_string()))?;
    read(agent.run(request))
}

fn url(target: &Target, check: &Check) -> String {
    let webhook = target.url.trim_end_matches('/');
    match check {
        Check::UnknownPath => format!("{webhook}/guardctl-verify-unknown-path"),
        Check::OtherGet(path) | Check::OtherPost(path) => {
            let authority = webhook.find("://").map_or(0, |scheme| scheme + 3);
            let end = webhook[authority..].find('/').map_or(webhook.len(), |path| authority + path);
            format!("{}{path}", &webhook[..end])
        }
        _ => match &target.token {
            Some(token) => format!("{webhook}/{token}"),
            None => target.url.clone(),
        },
    }
}

fn body(check: &Check) -> String {
    match check {
        Check::MalformedBody => MALFORMED.to_owned(),
        Check::TestEvent => {
            let now = Timestamp::from_unix(unix_seconds().cast_signed());
            format!(
                r#"{{"audience":"partner","eventName":"case.classification.completed","payload":{{"caseId":"{TEST_CASE}","externalId":null,"occurredAt":"{now}"}}}}"#
            )
        }
        _ => INCOMPLETE.to_owned(),
    }
}

/// Adds the headers of an event: its media type, and its signature if there is a key to sign with.
fn webhook_headers(request: request::Builder, target: &Target, body: &str) -> request::Builder {
    const ID: &str = "guardctl-verify";
    let request = request.header("content-type", "application/json");
    let Some(key) = &target.signing_key else { return request };
    let now = unix_seconds();
    request
        .header("webhook-id", ID)
        .header("webhook-timestamp", now)
        .header("webhook-signature", key.sign(ID, now, body.as_bytes()))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, NoAnswer> {
    let mut answer = answer.map_err(|error| match error {
        ureq::Error::Timeout(_) => NoAnswer::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => NoAnswer::NoConnection(error.to_string()),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            NoAnswer::NoConnection(error.to_string())
        }
        error => NoAnswer::Broken(error.to_string()),
    })?;
    let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().unwrap_or_default();
    Ok(Answer::new(answer.status().as_u16(), answer.headers(), &body))
}

impl Answer {
    fn new(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            status,
            build: header(headers::BUILD),
            rejection: header(headers::REJECTION),
            shadow: header(headers::SHADOW),
            event_key: header(headers::EVENT_KEY),
            code: body["code"].as_str().map(str::to_owned),
        }
    }
}

fn agent(timeout: Duration) -> ureq::Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(timeout))
        .proxy(None)
        .tls_config(tls)
        .build()
        .into()
}

/// Sends an incomplete event over HTTP/2 and ends the request with trailers.
fn send_with_trailers(target: &Target) -> Result<Answer, NoAnswer> {
    let broken = |error: &dyn fmt::Display| NoAnswer::Broken(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| broken(&error))?;
    runtime.block_on(async {
        let exchange = tokio::time::timeout(target.timeout, exchange_with_trailers(target));
        exchange.await.unwrap_or(Err(NoAnswer::Timeout))
    })
}

async fn exchange_with_trailers(target: &Target) -> Result<Answer, NoAnswer> {
    let broken = |error: h2::Error| NoAnswer::Broken(error.to_string());
    let request = webhook_headers(Request::post(url(target, &Check::Trailers)), target, INCOMPLETE);
    let request = request.body(()).map_err(|error| NoAnswer::Broken(error.to_string()))?;
    let host = request.uri().host().unwrap_or_default();
    let port = request.uri().port_u16().unwrap_or(80);
    let socket = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let socket = socket.map_err(|error| NoAnswer::NoConnection(error.to_string()))?;
    let (client, connection) = h2::client::handshake(socket).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.map_err(broken)?;
    let (answer, mut stream) = client.send_request(request, false).map_err(broken)?;
    stream.send_data(INCOMPLETE.into(), false).map_err(broken)?;
    let trailers = HeaderMap::from_iter([(
        ureq::http::HeaderName::from_static("x-guardctl"),
        ureq::http::HeaderValue::from_static("verify"),
    )]);
    stream.send_trailers(trailers).map_err(broken)?;
    let answer = answer.await.map_err(broken)?;
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        _ = body.flow_control().release_capacity(piece.len());
        bytes.extend(piece);
        if bytes.len() as u64 > MAX_ANSWER {
            break;
        }
    }
    connection.abort();
    Ok(Answer::new(head.status.as_u16(), &head.headers, &bytes))
}
