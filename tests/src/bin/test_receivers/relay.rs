//! Stands between the backend and a receiver: loses answers, and keeps what passed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// A running relay. It stops when dropped.
pub(crate) struct Relay {
    /// Where the backend delivers to.
    pub(crate) url: String,
    state: Arc<Passing>,
    _server: AbortOnDropHandle<()>,
}

/// A delivery, and what the receiver answered; 502 if it did not.
#[derive(Clone)]
pub(crate) struct Passed {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) status: StatusCode,
}

struct Passing {
    receiver: String,
    client: reqwest::Client,
    loses_answers: AtomicBool,
    passed: Mutex<Vec<Passed>>,
}

impl Relay {
    /// Starts a relay to the receiver at this URL.
    pub(crate) async fn start(receiver: String, client: reqwest::Client) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/outcomes", listener.local_addr()?);
        let state =
            Arc::new(Passing { receiver, client, loses_answers: AtomicBool::new(false), passed: Mutex::default() });
        let routes = Router::new().route("/outcomes", post(pass)).layer(DefaultBodyLimit::max(64 << 20));
        let routes = routes.with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            // The server runs until its task is aborted.
            _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, state, _server: AbortOnDropHandle::new(server) })
    }

    /// Whether the backend gets 503 instead of the receiver's answers.
    pub(crate) fn lose_answers(&self, loses: bool) {
        self.state.loses_answers.store(loses, Ordering::Relaxed);
    }

    /// The deliveries of this event so far.
    pub(crate) fn passed(&self, key: &str) -> Vec<Passed> {
        let passed = self.state.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_event = |passed: &&Passed| passed.headers.get("idempotency-key").is_some_and(|stated| stated == key);
        passed.iter().filter(is_of_event).cloned().collect()
    }
}

/// Posts a body with the headers of a delivery.
pub(crate) async fn send(client: &reqwest::Client, url: &str, mut headers: HeaderMap, body: Bytes) -> StatusCode {
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let answer = client.post(url).headers(headers).body(body).send().await;
    answer.map_or(StatusCode::BAD_GATEWAY, |answer| answer.status())
}

async fn pass(State(state): State<Arc<Passing>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = send(&state.client, &state.receiver, headers.clone(), body.clone()).await;
    state.passed.lock().unwrap_or_else(PoisonError::into_inner).push(Passed { headers, body, status });
    if state.loses_answers.load(Ordering::Relaxed) { StatusCode::SERVICE_UNAVAILABLE } else { status }
}
