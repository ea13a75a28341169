//! A sender that sends events as TruEnroll does, and counts the answers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use envelope::{Policy, SigningKey, vectors::Vector};
use reqwest::{
    Client, Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::world::Event;

/// Sends events to one webhook.
pub struct Sender {
    client: Client,
    target: Mutex<Target>,
    tally: Mutex<Tally>,
}

/// The webhook that events are sent to, and how they are signed.
#[derive(Debug, Clone)]
struct Target {
    webhook: String,
    signing: Option<SigningKey>,
}

/// The number of requests and of each kind of answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were sent.
    pub sent: u64,
    /// Answers of 202 `accepted`.
    pub accepted: u64,
    /// Answers of 202 `duplicate`.
    pub duplicates: u64,
    /// Answers of 202 `quarantined`.
    pub quarantined: u64,
    /// Rejections by code.
    pub rejected: BTreeMap<String, u64>,
    /// Answers of 503, and requests without an answer, including those without a connection.
    pub unavailable: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 202 `accepted`, with the event key.
    Accepted(String),
    /// 202 `duplicate`, with the event key.
    Duplicate(String),
    /// 202 `quarantined`, with the event key.
    Quarantined(String),
    /// A rejection with its status, code and optional pointer.
    Rejected(u16, String, Option<String>),
    /// 503, or no answer to a request that was sent.
    Unavailable,
    /// No connection, so nothing was sent.
    NoConnection,
}

impl Sender {
    /// Creates a sender for the webhook at this URL.
    pub fn new(webhook: String) -> Self {
        Self { client: client(), target: Mutex::new(Target { webhook, signing: None }), tally: Mutex::default() }
    }

    /// Sends to another webhook from now on; with signatures if a key is given.
    pub fn change_target(&self, webhook: String, signing: Option<SigningKey>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Target { webhook, signing };
    }

    fn target(&self) -> Target {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends an event once.
    pub async fn send(&self, event: &Event) -> Answer {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let Target { webhook, signing } = self.target();
        if let Some(key) = signing {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signature = key.sign("msg_1", now, event.body.as_bytes());
            headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
            headers.insert("webhook-timestamp", HeaderValue::from(now));
            headers.extend(
                HeaderValue::from_str(&signature).map(|value| (HeaderName::from_static("webhook-signature"), value)),
            );
        }
        self.post(&webhook, Method::POST, headers, event.body.clone().into_bytes()).await
    }

    /// Sends a golden vector. One for the default path goes to the sender's webhook, any other to
    /// its path at `base`.
    pub async fn send_vector(&self, base: &str, vector: &Vector) -> Answer {
        let method = Method::from_bytes(vector.method.as_bytes()).unwrap_or_default();
        let headers = vector.headers().filter_map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&value).ok()?))
        });
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value);
        }
        let is_usual = vector.path == Policy::default().path;
        let url = if is_usual { self.target().webhook } else { format!("{base}{}", vector.path) };
        self.post(&url, method, all, vector.body()).await
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        self.counts().clone()
    }

    async fn post(&self, url: &str, method: Method, headers: HeaderMap, body: Vec<u8>) -> Answer {
        self.counts().sent += 1;
        let unanswered =
            |error: reqwest::Error| if error.is_connect() { Answer::NoConnection } else { Answer::Unavailable };
        let answer = self.answer(url, method, headers, body).await.unwrap_or_else(unanswered);
        let mut tally = self.counts();
        match &answer {
            Answer::Accepted(_) => tally.accepted += 1,
            Answer::Duplicate(_) => tally.duplicates += 1,
            Answer::Quarantined(_) => tally.quarantined += 1,
            Answer::Unavailable | Answer::NoConnection => tally.unavailable += 1,
            Answer::Rejected(_, code, _) => *tally.rejected.entry(code.clone()).or_default() += 1,
        }
        answer
    }

    async fn answer(&self, url: &str, method: Method, headers: HeaderMap, body: Vec<u8>) -> reqwest::Result<Answer> {
        let answer = self.client.request(method, url).headers(headers).body(body).send().await?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await?;
        Ok(Answer::read(status, &body))
    }

    fn counts(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Interprets an answer's status and body.
    pub fn read(status: u16, body: &Value) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let key = text("eventKey").unwrap_or_default();
        match (status, text("status").as_deref()) {
            (202, Some("accepted")) => Self::Accepted(key),
            (202, Some("quarantined")) => Self::Quarantined(key),
            (202, _) => Self::Duplicate(key),
            (503, _) => Self::Unavailable,
            _ => Self::Rejected(status, text("code").unwrap_or_default(), text("pointer")),
        }
    }
}

/// The longest time for one request, which is longer than Envoy's retries take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An HTTP client that never retries and follows no redirects.
pub fn client() -> Client {
    // An error means that a provider of cryptography is installed already, which serves as well.
    _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy();
    let client = client.redirect(reqwest::redirect::Policy::none());
    client.retry(reqwest::retry::never().max_retries_per_request(0)).build().unwrap_or_default()
}
