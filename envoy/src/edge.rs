//! Asks a running Envoy about its filter and its backends.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use envelope::Policy;
use serde_json::Value;

use crate::traffic::Snapshot;

/// A running Envoy with the filter.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The URL of its operators' listener, for example `http://127.0.0.1:9902`.
    pub url: String,
}

/// Why Envoy did not answer a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// Nothing answers at that address.
    #[error("no Envoy answers at {0}")]
    NoAnswer(String),
    /// Something other than an Envoy with the filter answers.
    #[error("the server at this address is not an Envoy with the filter: {0}")]
    Unexpected(String),
    /// Envoy is starting or draining. Contains its answer.
    #[error("Envoy is not ready: {0}")]
    NotReady(String),
}

/// Whether a backend knows a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// It knows the proof. Contains the build whose judgement it saw, if there was one.
    Yes(Option<String>),
    /// It does not know the proof.
    No,
    /// The serving filter is too old to ask a backend.
    Unsupported,
    /// No backend could be asked, for this reason.
    Unasked(String),
}

/// The time before a question is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time for one question.
const TIMEOUT: Duration = Duration::from_secs(6);

impl Edge {
    /// Returns the counters of Envoy and the filter, since Envoy started.
    ///
    /// # Errors
    /// If Envoy does not answer, or does not serve the filter's metrics.
    pub fn snapshot(&self) -> Result<Snapshot, EdgeError> {
        let mut answer = self.get("/stats/prometheus", None)?;
        let text = answer.body_mut().read_to_string().map_err(|error| EdgeError::Unexpected(error.to_string()))?;
        Snapshot::parse(&text).map_err(|missing| {
            EdgeError::Unexpected(format!("{}/stats/prometheus has no metric `{missing}`", self.url))
        })
    }

    /// Like [`snapshot`](Self::snapshot), but if Envoy does not answer, it is asked again until
    /// `patience` has passed.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub fn snapshot_within(&self, patience: Duration) -> Result<Snapshot, EdgeError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.snapshot() {
                Err(EdgeError::NoAnswer(_)) if Instant::now() < deadline => thread::sleep(PAUSE),
                answer => return answer,
            }
        }
    }

    /// Returns the number of updates of the filter that Envoy has rejected since it started.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub fn rejected_updates(&self) -> Result<u64, EdgeError> {
        self.snapshot().map(|snapshot| snapshot.rejected_updates)
    }

    /// Checks that Envoy is ready for requests, and that the filter answers.
    ///
    /// # Errors
    /// If either is not so.
    pub fn ready(&self) -> Result<(), EdgeError> {
        let mut answer = self.get("/ready", None)?;
        if !answer.status().is_success() {
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            return Err(EdgeError::NotReady(text.trim().to_owned()));
        }
        self.probe().map(drop)
    }

    /// Asks the filter for its build, on a new connection.
    ///
    /// # Errors
    /// If Envoy does not answer, or the answer is not the filter's.
    pub fn probe(&self) -> Result<String, EdgeError> {
        let answer = self.get(Policy::PROBE_PATH, None)?;
        build(&answer).ok_or_else(|| {
            EdgeError::Unexpected(format!("the answer of {}{} names no build", self.url, Policy::PROBE_PATH))
        })
    }

    /// Asks a backend, through Envoy, whether it knows the proof `candidate`, or by default the
    /// proof of the serving filter.
    pub fn prove(&self, candidate: Option<&str>) -> Proven {
        let mut answer = match self.get(Policy::PROVE_PATH, candidate) {
            Ok(answer) => answer,
            Err(error) => return Proven::Unasked(error.to_string()),
        };
        let status = answer.status().as_u16();
        let build = build(&answer);
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        match (status, body["status"].as_str(), body["code"].as_str()) {
            (200, Some("proven"), _) => Proven::Yes(build),
            (_, _, Some("unproven")) => Proven::No,
            (404, ..) if build.is_some() => Proven::Unsupported,
            (404, ..) => Proven::Unasked(format!(
                "Envoy has no route {}, because its bootstrap is older than this guardctl. Render the bootstrap again and restart Envoy",
                Policy::PROVE_PATH
            )),
            _ => Proven::Unasked(format!("{}{} was answered with status {status}", self.url, Policy::PROVE_PATH)),
        }
    }

    fn get(&self, path: &str, bearer: Option<&str>) -> Result<ureq::http::Response<ureq::Body>, EdgeError> {
        let request = agent().get(format!("{}{path}", self.url));
        let request = match bearer {
            Some(secret) => request.header("authorization", format!("Bearer {secret}")),
            None => request,
        };
        request.call().map_err(|error| match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                EdgeError::Unexpected(format!("{}: {error}", self.url))
            }
            ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(_) => EdgeError::NoAnswer(format!("{} ({error})", self.url)),
            error => EdgeError::Unexpected(format!("{}: {error}", self.url)),
        })
    }
}

fn build(answer: &ureq::http::Response<ureq::Body>) -> Option<String> {
    answer.headers().get("x-edge-build").and_then(|build| build.to_str().ok()).map(str::to_owned)
}

fn agent() -> ureq::Agent {
    // Without a connection pool, so that the calls reach different workers of Envoy.
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_idle_connections(0)
        .proxy(None)
        .build()
        .into()
}
