//! The proofs: the secrets by which the backend recognizes requests that its filter has accepted.
//!
//! An unknown proof is a failure of the deployment, not of the sender: the filter and the backend
//! were given different proofs. So the backend answers 503, logs a limited number of lines, and is
//! not ready.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use envelope::headers::{self, Judgement};
use subtle::ConstantTimeEq;
use tokio::{sync::watch, time::Instant};

use crate::{config::Secret, telemetry::LogLimit};

/// The known proofs, and when a request last showed an unknown one.
pub(crate) struct Proofs {
    known: watch::Sender<Vec<Secret>>,
    /// Cleared by a request with a known proof.
    unknown_at: Mutex<Option<Instant>>,
    unknown_log: LogLimit,
    unjudged_log: LogLimit,
}

/// How long an unknown proof makes the backend unready. It has to end: while a load balancer sends
/// no requests to an unready backend, none can show that the proofs match again.
const UNREADY: Duration = Duration::from_secs(60);
/// Minimum interval between log lines about unknown proofs, and between those about requests without
/// a judgement.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum length of a build's name in the log, in characters.
const LOGGED_BUILD: usize = 64;

impl Proofs {
    /// Returns the proofs in `setting`, which are separated by white space. There are several while
    /// a proof is being replaced.
    pub(crate) fn new(setting: &Secret) -> Self {
        Self {
            known: watch::Sender::new(parts(setting)),
            unknown_at: Mutex::default(),
            unknown_log: LogLimit::every(LOG_INTERVAL),
            unjudged_log: LogLimit::every(LOG_INTERVAL),
        }
    }

    /// Knows the proofs in `setting`, and no others, from now on.
    pub(crate) fn replace(&self, setting: &Secret) {
        self.known.send_replace(parts(setting));
        // Whether the unknown proof is still unknown, the next request shows.
        self.set_unknown_at(None);
    }

    /// Returns how the filter judged a request, if the request shows a known proof.
    pub(crate) fn judgement<'a>(&self, headers: &'a HeaderMap) -> Option<Judgement<'a>> {
        // A request without a judgement did not pass through a filter. It says nothing about the
        // filter's proof, so readiness stays as it is.
        let Some(value) = headers.get(headers::JUDGED) else {
            self.log_unjudged();
            return None;
        };
        let judgement = Judgement::read(value.as_bytes());
        if self.knows(judgement.proof) {
            self.set_unknown_at(None);
            return Some(judgement);
        }
        self.set_unknown_at(Some(Instant::now()));
        self.log_unknown(judgement.build);
        None
    }

    /// Returns whether the backend knows `proof`, in a time that does not depend on where it
    /// differs from a known one.
    pub(crate) fn knows(&self, proof: &[u8]) -> bool {
        crate::mutation::instead!(Proof => true);
        self.known.borrow().iter().any(|known| known.reveal().as_bytes().ct_eq(proof).into())
    }

    /// Returns whether the last request from a filter showed an unknown proof, less than a minute
    /// ago.
    pub(crate) fn has_recent_unknown_proof(&self) -> bool {
        let unknown_at = *self.unknown_at.lock().unwrap_or_else(PoisonError::into_inner);
        unknown_at.is_some_and(|unknown_at| unknown_at.elapsed() < UNREADY)
    }

    fn set_unknown_at(&self, instant: Option<Instant>) {
        *self.unknown_at.lock().unwrap_or_else(PoisonError::into_inner) = instant;
    }

    fn log_unjudged(&self) {
        let Some(suppressed) = self.unjudged_log.allow() else { return };
        tracing::warn!(
            suppressed,
            "answered 503 to a request without the header {}: it did not pass through the filter. Let nothing but Envoy \
             reach `ingest.listen`, and enable the filter on the webhook's route",
            headers::JUDGED
        );
    }

    fn log_unknown(&self, build: &str) {
        let Some(suppressed) = self.unknown_log.allow() else { return };
        let build: String = build.chars().take(LOGGED_BUILD).collect();
        tracing::error!(
            build,
            suppressed,
            "answered 503 to a request with a proof that this backend does not know: set `ingest.proof` to the proof \
             with which the filter was published"
        );
    }
}

fn parts(setting: &Secret) -> Vec<Secret> {
    setting.parts().map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(proof: &str) -> HeaderMap {
        let value = format!("{proof};build;accepted").parse().unwrap();
        HeaderMap::from_iter([(headers::JUDGED.parse().unwrap(), value)])
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_proof_is_remembered_until_a_known_one_arrives_or_a_minute_has_passed() {
        let proofs = Proofs::new(&Secret::new("old-proof new-proof"));
        assert!(proofs.judgement(&judged("new-proof")).is_some() && !proofs.has_recent_unknown_proof());
        assert!(proofs.judgement(&judged("another")).is_none() && proofs.has_recent_unknown_proof());
        assert!(proofs.judgement(&HeaderMap::new()).is_none() && proofs.has_recent_unknown_proof());
        assert!(proofs.judgement(&judged("old-proof")).is_some() && !proofs.has_recent_unknown_proof());
        assert!(proofs.judgement(&HeaderMap::new()).is_none() && !proofs.has_recent_unknown_proof());
        assert!(proofs.judgement(&judged("another")).is_none());
        tokio::time::advance(UNREADY).await;
        assert!(!proofs.has_recent_unknown_proof());
    }

    #[tokio::test]
    async fn replaced_proofs_take_effect_at_once() {
        let proofs = Proofs::new(&Secret::new("old-proof"));
        assert!(proofs.judgement(&judged("new-proof")).is_none() && proofs.has_recent_unknown_proof());
        proofs.replace(&Secret::new("old-proof new-proof"));
        assert!(!proofs.has_recent_unknown_proof() && proofs.knows(b"old-proof") && proofs.knows(b"new-proof"));
        proofs.replace(&Secret::new("new-proof"));
        assert!(!proofs.knows(b"old-proof") && proofs.knows(b"new-proof"));
    }
}
