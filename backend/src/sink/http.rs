//! Posts outcomes to the partner's application.

use std::time::SystemTime;

use envelope::{EventKey, Feature, Signing, SigningKey};
use reqwest::{
    Body, Client, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use sha2::{Digest, Sha256};

use super::Delivery;
use crate::{
    config,
    event::Event,
    handler::{HandlerError, Outcome, Retry},
    http_client,
    time::to_millis,
};

/// The HTTP sink.
pub struct HttpSink {
    client: Client,
    urls: Vec<(Feature, Url)>,
    key: Option<SigningKey>,
}

impl HttpSink {
    pub(super) fn new(settings: &config::Sink) -> anyhow::Result<Self> {
        let urls = Feature::ALL.into_iter().map(|feature| Ok((feature, Url::parse(settings.url_for(feature))?)));
        Ok(Self {
            client: http_client::builder(settings.timeout).redirect(redirect::Policy::none()).build()?,
            urls: urls.collect::<anyhow::Result<_>>()?,
            key: SigningKey::parse(settings.secret.reveal()).ok(),
        })
    }

    pub(super) async fn deliver(&self, event: &Event, outcome: Outcome) -> Result<(), HandlerError> {
        let feature = event.name.feature;
        let Some((_, url)) = self.urls.iter().find(|(known, _)| *known == feature) else {
            return Err(failed("sink_no_url", "no URL for the feature".to_owned(), Retry::Never));
        };
        let body = Delivery::new(event).with(outcome);
        let body =
            body.map_err(|_| failed("sink_unwritable", "the outcome cannot be written".to_owned(), Retry::Never))?;
        let (id, timestamp) = (message_id(&event.key), to_millis(SystemTime::now()) / 1_000);
        let mut request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("idempotency-key", event.key.as_str())
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp);
        if let Some(key) = &self.key {
            let signing = body.inspect(key.begin(&id, timestamp), Signing::update).await;
            let signing = signing.map_err(|error| {
                tracing::error!("cannot read a large result again (`partner_api.spool_folder`): {error}");
                failed("sink_unreadable", "a large result could not be read again".to_owned(), Retry::Later)
            })?;
            request = request.header("webhook-signature", signing.finish());
        }
        let body = body.into_bytes().map_or_else(Body::wrap, Body::from);
        let response = request.body(body).send().await.map_err(|error| {
            let (code, what) = if error.is_timeout() {
                ("sink_timeout", "did not answer in time")
            } else {
                ("sink_unreachable", "cannot be reached")
            };
            failed(code, format!("the application {what}"), Retry::Later)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // Whatever an application answers, a mistake of its own is likelier than that it never wants the outcome; only
        // 410 says the latter.
        let retry = match http_client::retry_after(response.headers()) {
            _ if status == StatusCode::GONE => Retry::Never,
            Some(after) => Retry::After(after),
            None => Retry::Later,
        };
        Err(failed("sink_rejected", format!("the application answered {}", status.as_u16()), retry))
    }
}

/// The delivery's identifier in the sense of Standard Webhooks, which allows no full stop in it: a hash of the event key.
fn message_id(key: &EventKey) -> String {
    let hash = Sha256::digest(key.as_str());
    hash.iter().take(16).fold("msg_".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

fn failed(code: &'static str, detail: String, retry: Retry) -> HandlerError {
    HandlerError { code, detail, retry }
}
