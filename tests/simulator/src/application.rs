//! The partner's application: receives outcomes, and checks them as a partner would.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::{self, DefaultBodyLimit},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use standardwebhooks::{Webhook, WebhookError};

/// The partner's application, and what it has received.
pub struct Application {
    signature: RwLock<Webhook>,
    contract: OnceLock<Box<Contract>>,
    state: Mutex<State>,
}

/// A further check of each outcome. It returns what is wrong.
pub type Contract = dyn Fn(&HeaderMap, &Value) -> Result<(), String> + Send + Sync;

#[derive(Default)]
struct State {
    deliveries: Vec<Delivery>,
    tests: u64,
    complaints: Vec<String>,
    faults: VecDeque<(StatusCode, Duration)>,
    pace: Duration,
    busy: usize,
    any_time: bool,
}

/// One outcome that the application accepted.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event key in the body.
    pub key: String,
    /// The case and the feature.
    pub lane: (String, String),
    /// The request's headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Arc<Value>,
    /// When the application accepted it.
    pub at: Instant,
}

/// On a request of `backend doctor --probe-sink`, which brings no outcome: `true`.
const TEST_HEADER: &str = "x-truenroll-test";

/// The route `POST /outcomes`.
pub fn routes(application: Arc<Application>) -> Router {
    Router::new().route("/outcomes", post(receive)).layer(DefaultBodyLimit::max(64 << 20)).with_state(application)
}

async fn receive(
    extract::State(application): extract::State<Arc<Application>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let fault = application.state().faults.pop_front();
    let pace = application.state().pace;
    let _busy = Busy::new(&application);
    tokio::time::sleep(pace.mul_f64(fastrand::f64())).await;
    if let Some((status, delay)) = fault {
        tokio::time::sleep(delay).await;
        if status != StatusCode::OK {
            return status;
        }
    }
    let is_test = headers.get(TEST_HEADER).is_some_and(|value| value == "true");
    let checked = if is_test {
        application.check_test(&headers, &body).map(|()| None)
    } else {
        application.check(&headers, &body).map(Some)
    };
    match checked {
        Ok(delivery) => {
            let mut state = application.state();
            state.tests += u64::from(delivery.is_none());
            state.deliveries.extend(delivery);
            StatusCode::NO_CONTENT
        }
        Err(complaint) => {
            application.state().complaints.push(complaint);
            StatusCode::BAD_REQUEST
        }
    }
}

/// Counts a request as being answered until dropped, which also happens if the client disconnects.
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
    /// Creates an application that verifies outcomes with this secret.
    ///
    /// # Errors
    /// If the secret is invalid.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self { signature: RwLock::new(Webhook::new(secret)?), contract: OnceLock::new(), state: Mutex::default() })
    }

    /// Verifies outcomes with this secret alone from now on.
    ///
    /// # Errors
    /// If the secret is invalid.
    pub fn change_secret(&self, secret: &str) -> Result<()> {
        let signature = Webhook::new(secret)?;
        *self.signature.write().unwrap_or_else(PoisonError::into_inner) = signature;
        Ok(())
    }

    /// All accepted outcomes, in the order of arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// The first accepted outcome.
    pub fn first_delivery(&self) -> Option<Delivery> {
        self.state().deliveries.first().cloned()
    }

    /// The number of different outcomes that were accepted, and how many further times any of them
    /// was accepted.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        let mut times: BTreeMap<&str, u64> = BTreeMap::new();
        for delivery in &state.deliveries {
            *times.entry(&delivery.key).or_default() += 1;
        }
        (times.len() as u64, times.values().map(|times| times - 1).sum())
    }

    /// The number of signed tests that were accepted. A test is not an outcome.
    pub fn tests(&self) -> u64 {
        self.state().tests
    }

    /// The number of requests that are being answered.
    pub fn busy(&self) -> usize {
        self.state().busy
    }

    /// What was wrong with rejected deliveries.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }

    /// Gives the next deliveries these statuses after these delays. Status 200 only delays a
    /// delivery.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = (StatusCode, Duration)>) {
        self.state().faults.extend(faults);
    }

    /// Makes each delivery take a random time up to `pace`.
    pub fn set_pace(&self, pace: Duration) {
        self.state().pace = pace;
    }

    /// Accepts deliveries with any timestamp, for backends whose clocks are wrong. By default a
    /// timestamp may be at most five minutes off.
    pub fn accept_any_time(&self) {
        self.state().any_time = true;
    }

    /// Holds each outcome against this contract as well. Only the first contract counts.
    pub fn hold_against(&self, contract: Box<Contract>) {
        _ = self.contract.set(contract);
    }

    /// Cancels the remaining faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Delivery, String> {
        let body = self.verified(headers, body)?;
        let text =
            |name: &str| body[name].as_str().map(str::to_owned).ok_or_else(|| format!("the body has no `{name}`"));
        let key = text("eventKey")?;
        if headers.get("idempotency-key").is_none_or(|stated| stated.as_bytes() != key.as_bytes()) {
            return Err("Idempotency-Key is not the event key".to_owned());
        }
        self.contract.get().map_or(Ok(()), |holds| holds(headers, &body))?;
        let lane = (text("caseId")?, text("feature")?);
        Ok(Delivery { key, lane, headers: headers.clone(), body: Arc::new(body), at: Instant::now() })
    }

    fn check_test(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let body = self.verified(headers, body)?;
        let is_outcome = body.get("eventKey").is_some() || body.get("outcome").is_some();
        if body["test"] == true && !is_outcome { Ok(()) } else { Err("a test does not say that it is one".to_owned()) }
    }

    /// Verifies the signature of a body, and parses it.
    fn verified(&self, headers: &HeaderMap, body: &[u8]) -> Result<Value, String> {
        let verified = match self.signature().verify(body, headers) {
            Err(WebhookError::TimestampTooOldError | WebhookError::FutureTimestampError) if self.state().any_time => {
                self.verify_at_any_time(headers, body)
            }
            verified => verified,
        };
        verified.map_err(|error| format!("invalid signature: {error}"))?;
        serde_json::from_slice(body).map_err(|error| format!("invalid body: {error}"))
    }

    /// Verifies a signature without its timestamp, by signing again: the library cannot skip that
    /// check.
    fn verify_at_any_time(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookError> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let timestamp = header("webhook-timestamp").parse().map_err(|_| WebhookError::InvalidTimestamp)?;
        let signed = self.signature().sign(header("webhook-id"), timestamp, body)?;
        if header("webhook-signature") == signed { Ok(()) } else { Err(WebhookError::InvalidSignature) }
    }

    fn signature(&self) -> RwLockReadGuard<'_, Webhook> {
        self.signature.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
