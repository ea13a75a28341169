//! The partner's application: takes outcomes, and checks what a partner would.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use standardwebhooks::{Webhook, WebhookError};

/// What the application was told.
pub struct Application {
    signature: Webhook,
    state: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    deliveries: Vec<Delivery>,
    complaints: Vec<String>,
    faults: VecDeque<(StatusCode, Duration)>,
    pace: Duration,
    busy: usize,
    any_time: bool,
}

/// One outcome that was taken.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event's key, from the body.
    pub key: String,
    /// The case and the feature.
    pub lane: (String, String),
    /// The whole body.
    pub body: Arc<Value>,
    /// When it was taken.
    pub at: Instant,
}

/// `POST /outcomes`
pub fn routes(application: Arc<Application>) -> Router {
    Router::new().route("/outcomes", post(take)).layer(DefaultBodyLimit::max(64 << 20)).with_state(application)
}

async fn take(State(application): State<Arc<Application>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let (fault, pace) = {
        let mut state = application.state();
        (state.faults.pop_front(), state.pace)
    };
    let _busy = Busy::new(&application);
    tokio::time::sleep(pace.mul_f64(fastrand::f64())).await;
    if let Some((status, delay)) = fault {
        tokio::time::sleep(delay).await;
        if status != StatusCode::OK {
            return status;
        }
    }
    match application.check(&headers, &body) {
        Ok(delivery) => {
            application.state().deliveries.push(delivery);
            StatusCode::NO_CONTENT
        }
        Err(complaint) => {
            application.state().complaints.push(complaint);
            StatusCode::BAD_REQUEST
        }
    }
}

/// A request that is being answered, until it is dropped: also where the client goes away.
struct Busy<'a>(&'a Application);

impl<'a> Busy<'a> {
    fn new(application: &'a Application) -> Self {
        application.state().busy += 1;
        Self(application)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
    }
}

impl Application {
    /// An application that knows the secret with which outcomes are signed.
    ///
    /// # Errors
    /// Where it is no secret.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self { signature: Webhook::new(secret)?, state: Mutex::default() })
    }

    /// Every outcome that was taken, in the order of arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// How many outcomes were taken, and how many of these were taken before.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        let mut times: BTreeMap<&str, u64> = BTreeMap::new();
        for delivery in &state.deliveries {
            *times.entry(&delivery.key).or_default() += 1;
        }
        (times.len() as u64, times.values().map(|times| times - 1).sum())
    }

    /// How many requests are being answered now.
    pub fn busy(&self) -> usize {
        self.state().busy
    }

    /// What was wrong with deliveries.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }

    /// Makes the next deliveries go wrong: with a status (200 for none), after a time.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = (StatusCode, Duration)>) {
        self.state().faults.extend(faults);
    }

    /// Lets each delivery take a random time up to this.
    pub fn set_pace(&self, pace: Duration) {
        self.state().pace = pace;
    }

    /// Accepts deliveries whatever their timestamp says, for backends whose clocks are wrong. Otherwise it may be off by five
    /// minutes.
    pub fn accept_any_time(&self) {
        self.state().any_time = true;
    }

    /// Makes all deliveries go right again.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Delivery, String> {
        let verified = match self.signature.verify(body, headers) {
            Err(WebhookError::TimestampTooOldError | WebhookError::FutureTimestampError) if self.state().any_time => {
                self.verify_at_any_time(headers, body)
            }
            verified => verified,
        };
        verified.map_err(|error| format!("the signature: {error}"))?;
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
        let text = |name: &str| body[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}"));
        let key = text("eventKey")?;
        if headers.get("idempotency-key").is_none_or(|stated| stated.as_bytes() != key.as_bytes()) {
            return Err("Idempotency-Key is not the event's key".to_owned());
        }
        Ok(Delivery { key, lane: (text("caseId")?, text("feature")?), body: Arc::new(body), at: Instant::now() })
    }

    /// The library cannot leave the timestamp out of account, so what was signed is signed again.
    fn verify_at_any_time(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookError> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let timestamp = header("webhook-timestamp").parse().map_err(|_| WebhookError::InvalidTimestamp)?;
        let signed = self.signature.sign(header("webhook-id"), timestamp, body)?;
        if header("webhook-signature") == signed { Ok(()) } else { Err(WebhookError::InvalidSignature) }
    }

    fn state(&self) -> MutexGuard<'_, Taken> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
