//! What stands between Envoy and the backend, and records requests and answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::message;
use simulator::sender;

/// A running recorder. It stops when dropped.
pub struct Upstream {
    port: u16,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

struct Shared {
    client: Client,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    /// The URL of the backend; empty to answer 503.
    backend: String,
    passed: String,
    answered: String,
}

impl Shared {
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Starts a recorder without a backend.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { client: sender::client(), recorded: Mutex::default() });
        let routes = Router::new().fallback(pass_on).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            _ = axum::serve(listener, routes).await;
        });
        Ok(Self { port, shared, _server: AbortOnDropHandle::new(server) })
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes requests on to the backend at this URL.
    pub fn pass_to(&self, backend: String) {
        self.shared.recorded().backend = backend;
    }

    /// Returns the last request and its answer, and forgets them. Both are empty if there was none.
    pub fn take(&self) -> (String, String) {
        let mut recorded = self.shared.recorded();
        (std::mem::take(&mut recorded.passed), std::mem::take(&mut recorded.answered))
    }
}

/// Records a request, and passes it on as it was recorded, so that a recording contains everything
/// that the backend needs.
async fn pass_on(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let passed = message::write(&format!("{method} {uri}"), &headers, &body);
    let backend = {
        let mut recorded = shared.recorded();
        recorded.passed.clone_from(&passed);
        recorded.backend.clone()
    };
    let Ok((status, headers, body)) = message::exchange(&shared.client, &backend, &passed).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    shared.recorded().answered = message::write(status.as_str(), &headers, &body);
    let mut response = (status, body).into_response();
    *response.headers_mut() = headers;
    response
}
