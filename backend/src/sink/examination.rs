//! What `backend doctor` asks the partner's application.

use std::time::{Duration, SystemTime};

use envelope::{Feature, SigningKey};
use reqwest::{RequestBuilder, Url};
use tokio::time::Instant;

use super::{Sink, http::HttpSink};
use crate::{http_client, time::to_millis};

/// On a request that tests the sink: `true`.
const TEST_HEADER: &str = "x-truenroll-test";
/// The type that the body of a test states.
pub(super) const TEST_TYPE: &str = "truenroll-edge.test";

/// The answer of one URL of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkAnswer {
    /// The URL's scheme, host and port.
    pub host: String,
    /// The status, or why there is no answer.
    pub status: Result<u16, String>,
    /// How long it took.
    pub took: Duration,
}

/// Returns the identifier and the body of a test.
pub(super) fn test(now: SystemTime) -> (String, String) {
    let id = format!("msg_test_{:032x}", fastrand::u128(..));
    let body = serde_json::json!({ "type": TEST_TYPE, "test": true, "sentAtMs": to_millis(now) }).to_string();
    (id, body)
}

impl Sink {
    /// Sends a HEAD request to each URL, to find out whether it is reachable. Returns `None` if
    /// outcomes are only logged.
    pub async fn reach(&self) -> Option<Vec<SinkAnswer>> {
        let Self::Http(sink) = self else { return None };
        let mut answers = Vec::new();
        for url in sink.distinct_urls() {
            answers.push(sink.head(url).await);
        }
        Some(answers)
    }

    /// Posts a signed test to each URL. Returns `None` if outcomes are only logged.
    pub async fn test(&self) -> Option<Vec<SinkAnswer>> {
        let Self::Http(sink) = self else { return None };
        let mut answers = Vec::new();
        for url in sink.distinct_urls() {
            answers.push(sink.post_test(url, SystemTime::now()).await);
        }
        Some(answers)
    }
}

impl HttpSink {
    fn distinct_urls(&self) -> Vec<&Url> {
        let mut urls: Vec<_> = Feature::ALL.iter().map(|&feature| self.urls.of(feature)).collect();
        urls.sort_unstable();
        urls.dedup();
        urls
    }

    async fn head(&self, url: &Url) -> SinkAnswer {
        self.answer(url, self.client.head(url.clone()).header(TEST_HEADER, "true")).await
    }

    /// Posts a test, which has the headers of an outcome and one more, but another body.
    async fn post_test(&self, url: &Url, now: SystemTime) -> SinkAnswer {
        let (id, body) = test(now);
        let timestamp = to_millis(now) / 1_000;
        let mut request = self.post(url, &id, &id, timestamp).header(TEST_HEADER, "true");
        let sign = |key: &SigningKey| key.sign(&id, timestamp, body.as_bytes());
        let signatures: Vec<_> = self.keys.borrow().iter().map(sign).collect();
        if !signatures.is_empty() {
            request = request.header("webhook-signature", signatures.join(" "));
        }
        self.answer(url, request.body(body)).await
    }

    async fn answer(&self, url: &Url, request: RequestBuilder) -> SinkAnswer {
        let sent = Instant::now();
        let answer = request.send().await;
        SinkAnswer {
            host: url.origin().ascii_serialization(),
            status: answer.map(|answer| answer.status().as_u16()).map_err(|error| http_client::reason(&error)),
            took: sent.elapsed(),
        }
    }
}
