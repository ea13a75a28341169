//! What a running Envoy says of itself.

use std::{io, time::Duration};

use envelope::Policy;
use serde_json::Value;

use crate::traffic::Snapshot;

/// Where a running Envoy can be asked.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Its listener for operators, `http://127.0.0.1:9902` for example.
    pub url: String,
}

/// Why Envoy could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// Nothing answers at that address.
    #[error("no Envoy answers at {0}")]
    NoAnswer(String),
    /// Something answers, and not as an Envoy with the filter does.
    #[error("what answers is not an Envoy with the filter: {0}")]
    Unexpected(String),
}

/// What a backend says of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// It knows the proof; with the build whose judgement it saw, if one did.
    Yes(Option<String>),
    /// It does not know the proof.
    No,
    /// The filter that serves cannot ask: it is older than the question.
    Unsupported,
    /// No backend could be asked; with what was answered instead.
    Unasked(String),
}

/// One question takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(6);

impl Edge {
    /// What Envoy and the filter have counted since Envoy started.
    ///
    /// # Errors
    /// Where Envoy does not answer, or does not serve the filter's metrics.
    pub fn snapshot(&self) -> Result<Snapshot, EdgeError> {
        let mut answer = self.get("/stats/prometheus", None)?;
        let text = answer.body_mut().read_to_string().map_err(|error| EdgeError::Unexpected(error.to_string()))?;
        Snapshot::parse(&text).map_err(|missing| {
            EdgeError::Unexpected(format!("{}/stats/prometheus has no metric `{missing}`", self.url))
        })
    }

    /// How many updates of the filter Envoy has refused since it started.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn refused_updates(&self) -> Result<u64, EdgeError> {
        self.snapshot().map(|snapshot| snapshot.refused_updates)
    }

    /// Asks the filter, over a connection of its own, which build it is.
    ///
    /// # Errors
    /// Where Envoy does not answer, or where no filter did.
    pub fn probe(&self) -> Result<String, EdgeError> {
        let answer = self.get(Policy::PROBE_PATH, None)?;
        build(&answer)
            .ok_or_else(|| EdgeError::Unexpected(format!("{}{} names no build", self.url, Policy::PROBE_PATH)))
    }

    /// Asks a backend, through Envoy, whether it knows a proof: `candidate`, or the one of the filter that serves.
    pub fn prove(&self, candidate: Option<&str>) -> Proven {
        let mut answer = match self.get(Policy::PROVE_PATH, candidate) {
            Ok(answer) => answer,
            Err(error) => return Proven::Unasked(error.to_string()),
        };
        let (status, build) = (answer.status().as_u16(), build(&answer));
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        match (status, body["status"].as_str(), body["code"].as_str()) {
            (200, Some("proven"), _) => Proven::Yes(build),
            (_, _, Some("unproven")) => Proven::No,
            (404, ..) if build.is_some() => Proven::Unsupported,
            (404, ..) => Proven::Unasked(format!(
                "Envoy has no route {}: its bootstrap is older than this guardctl, so render it again and restart Envoy",
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
    // No pool: every call has a connection of its own, and so reaches any of Envoy's workers.
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_idle_connections(0)
        .proxy(None)
        .build()
        .into()
}
