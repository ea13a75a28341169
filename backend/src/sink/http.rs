//! Posts outcomes to the partner's application, signed per Standard Webhooks.

use std::time::{Duration, Instant, SystemTime};

use envelope::{EventKey, Feature, Signing, SigningKey};
use reqwest::{
    Body, Client, Request, RequestBuilder, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::body;
use crate::{
    config,
    document::DocumentBody,
    event::Event,
    handler::{Deliverable, HandlerError, Retry},
    http_client,
    time::{duration_millis, to_millis},
    traces::{self, Span},
};

/// The sink that posts to the partner's application.
pub struct HttpSink {
    pub(super) client: Client,
    pub(super) urls: Urls,
    /// The keys that sign outcomes, newest first. There are several while a secret is being
    /// replaced, and none if outcomes are not to be signed.
    pub(super) keys: watch::Sender<Vec<SigningKey>>,
}

/// Where the outcomes of each feature go.
pub(super) struct Urls([Url; Feature::ALL.len()]);

impl Urls {
    fn parse(settings: &config::Sink) -> anyhow::Result<Self> {
        let [first, second, third, fourth] = Feature::ALL.map(|feature| Url::parse(settings.url_for(feature)));
        Ok(Self([first?, second?, third?, fourth?]))
    }

    pub(super) fn of(&self, feature: Feature) -> &Url {
        &self.0[feature as usize]
    }
}

impl HttpSink {
    pub(super) fn new(settings: &config::Sink) -> anyhow::Result<Self> {
        let client = http_client::builder(settings.timeout).redirect(redirect::Policy::none()).build()?;
        Ok(Self { client, urls: Urls::parse(settings)?, keys: watch::Sender::new(settings.signing_keys()?) })
    }

    pub(super) async fn deliver(&self, event: &Event, outcome: Deliverable) -> Result<(), HandlerError> {
        let body = body::write(event, outcome)?;
        let mut request = self.request(event, body, SystemTime::now()).await?;
        // The URL may contain a token.
        let span = Span::call("POST", request.url(), String::new);
        if let Some(context) = span.context().and_then(|context| HeaderValue::try_from(context).ok()) {
            request.headers_mut().insert(traces::HEADER, context);
        }
        let sent_at = Instant::now();
        let answered = self.client.execute(request).await;
        let took_ms = duration_millis(sent_at.elapsed());
        let answered = answered.map_err(|error| {
            let error = not_answered(&error);
            tracing::debug!(code = error.code, took_ms, "the application did not answer");
            error
        });
        let delivered = answered.and_then(|response| {
            tracing::debug!(status = response.status().as_u16(), took_ms, "the application answered");
            span.answered(response.status().as_u16());
            if response.status().is_success() {
                return Ok(());
            }
            Err(rejected(response.status(), http_client::retry_after(response.headers())))
        });
        span.end(delivered.as_ref().err().map(|error| error.code));
        delivered
    }

    /// Returns a request without a body and without signatures.
    pub(super) fn post(&self, url: &Url, key: &str, id: &str, timestamp: u64) -> RequestBuilder {
        self.client
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("idempotency-key", key)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
    }

    /// Builds the request that delivers `body` at the time `now`.
    async fn request(&self, event: &Event, body: DocumentBody, now: SystemTime) -> Result<Request, HandlerError> {
        let id = message_id(&event.key);
        let timestamp = to_millis(now) / 1_000;
        let mut request = self.post(self.urls.of(event.name.feature), event.key.as_str(), &id, timestamp);
        let begun: Vec<_> = self.keys.borrow().iter().map(|key| key.begin(&id, timestamp)).collect();
        if !begun.is_empty() {
            let take = |begun: &mut Vec<Signing>, piece: &[u8]| begun.iter_mut().for_each(|one| one.update(piece));
            let signed = body.inspect(begun, take).await.map_err(|error| body::unreadable(&error))?;
            let signatures: Vec<_> = signed.into_iter().map(Signing::finish).collect();
            request = request.header("webhook-signature", signatures.join(" "));
        }
        let body = body.into_bytes().map_or_else(Body::wrap, Body::from);
        // The URL and the headers are valid, so only the client itself could be at fault.
        request.body(body).build().map_err(|error| not_answered(&error))
    }
}

/// Returns the message identifier of Standard Webhooks for an event. The specification allows no
/// full stop in it, which an event key contains, so it is a hash of the key.
pub(super) fn message_id(key: &EventKey) -> String {
    let hash = Sha256::digest(key.as_str());
    let id = hash.iter().take(16).fold(0_u128, |id, byte| id << 8 | u128::from(*byte));
    format!("msg_{id:032x}")
}

/// The error for an answer that is not 2xx. An application that rejects an outcome more likely has
/// a fault than never wants the outcome, so the delivery is retried. Only 410 says that it never
/// will.
fn rejected(status: StatusCode, retry_after: Option<Duration>) -> HandlerError {
    let retry = match retry_after {
        _ if status == StatusCode::GONE => Retry::Never,
        Some(after) => Retry::After(after),
        None => Retry::Later,
    };
    let detail = format!("the application answered {} instead of 2xx", status.as_u16());
    HandlerError { code: "sink_rejected", detail, retry }
}

/// The error for a request that got no answer.
fn not_answered(error: &reqwest::Error) -> HandlerError {
    if error.is_timeout() {
        let detail = "the application did not answer within `sink.timeout_ms`".to_owned();
        return HandlerError { code: "sink_timeout", detail, retry: Retry::Later };
    }
    let detail = "the application cannot be reached, or closed the connection without an answer: check `sink.url`, and \
                  that the application runs";
    HandlerError { code: "sink_unreachable", detail: detail.to_owned(), retry: Retry::Later }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use bytes::Bytes;

    use super::*;
    use crate::{
        document::{Document, Spool},
        time::from_millis,
    };

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLD_SECRET: &str = "whsec_b2xkLXNlY3JldC1vZi10aGUtYXBwbGljYXRpb24=";
    const BODY: &[u8] = br#"{"eventName":"case.extraction.completed","payload":{"caseId":"a","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;

    fn sink(keys: Vec<SigningKey>) -> HttpSink {
        let url = |path| Url::parse("http://application.example/").unwrap().join(path).unwrap();
        let urls = Urls(["c", "e", "f", "t"].map(url));
        let client = http_client::builder(Duration::from_secs(1)).build().unwrap();
        HttpSink { client, urls, keys: watch::Sender::new(keys) }
    }

    fn event() -> Event {
        Event::parse(BODY, from_millis(1_750_588_201_000)).unwrap()
    }

    /// The request's headers that depend on the event and its outcome.
    async fn headers(sink: &HttpSink, result: Document) -> Vec<(String, String)> {
        let body = body::write(&event(), Deliverable::Result(result)).unwrap();
        let request = sink.request(&event(), body, from_millis(1_767_225_600_999)).await.unwrap();
        assert_eq!(request.url().path(), "/e");
        let headers = request.headers().iter();
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_message_id_is_a_hash_of_the_event_key() {
        let event = event();
        assert_eq!(message_id(&event.key), message_id(&event.key.clone()));
        let id = message_id(&event.key);
        let digits = id.strip_prefix("msg_").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }

    #[tokio::test]
    async fn an_unsigned_request_has_no_signature() {
        let id = message_id(&event().key);
        assert_eq!(
            headers(&sink(Vec::new()), Document::from_json("{}".to_owned())).await,
            [
                ("content-type", "application/json"),
                ("idempotency-key", event().key.as_str()),
                ("webhook-id", &id),
                ("webhook-timestamp", "1767225600"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[tokio::test]
    async fn each_key_signs_the_whole_body_in_memory_and_in_a_file() {
        let keys = [SECRET, OLD_SECRET].map(|secret| SigningKey::parse(secret).unwrap());
        let json = format!("[\"{}\"]", "a".repeat(2 << 20));
        let in_file = Spool::new().add(Bytes::from(json.clone()), Arc::from(Path::new(""))).await.unwrap().finish();
        assert!(in_file.in_memory().is_none());
        for result in [Document::from_json(json), in_file] {
            let body = body::write(&event(), Deliverable::Result(result.clone())).unwrap();
            let whole = body.inspect(Vec::new(), |whole: &mut Vec<u8>, piece| whole.extend_from_slice(piece));
            let whole = whole.await.unwrap();
            let signatures = keys.each_ref().map(|key| key.sign(&message_id(&event().key), 1_767_225_600, &whole));
            let headers = headers(&sink(keys.to_vec()), result).await;
            assert_eq!(headers.last().unwrap(), &("webhook-signature".to_owned(), signatures.join(" ")));
        }
    }

    #[test]
    fn only_410_ends_the_attempts() {
        let wait = Duration::from_secs(7);
        for (status, retry_after, expected) in [
            (400, None, Retry::Later),
            (404, None, Retry::Later),
            (301, None, Retry::Later),
            (429, Some(wait), Retry::After(wait)),
            (500, None, Retry::Later),
            (503, Some(wait), Retry::After(wait)),
            (410, None, Retry::Never),
            (410, Some(wait), Retry::Never),
        ] {
            let error = rejected(StatusCode::from_u16(status).unwrap(), retry_after);
            assert_eq!((error.code, error.retry), ("sink_rejected", expected), "{status}");
            assert!(error.detail.contains(&status.to_string()), "{}", error.detail);
        }
    }
}
