//! The proofs by which the backend recognizes requests that its filter has judged.
//!
//! A request with an unknown proof is a failure of the deployment, not of the sender: the filter and the backend were given
//! different secrets. So it is answered 503, logged at a bounded rate, and shown by readiness.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use envelope::headers::{self, Judgement};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::{config::Secret, telemetry::LogLimit};

/// The known proofs, and whether the last judged request showed one of them.
pub struct Proofs {
    known: Vec<Secret>,
    refused_at: Mutex<Option<Instant>>,
    log: LogLimit,
}

/// How long readiness remembers an unknown proof. Where readiness decides whether requests come at all, none would come to
/// show that the proofs agree again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// At most one line about unknown proofs in this time.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// As long as a build's name may be.
const MOST_LOGGED: usize = 64;

impl Proofs {
    /// The proofs in `setting`, separated by white space: several while a proof is being replaced.
    pub fn new(setting: &Secret) -> Self {
        let known = setting.reveal().split_whitespace().map(Secret::new).collect();
        Self { known, refused_at: Mutex::default(), log: LogLimit::every(LOG_EVERY) }
    }

    /// How the request was judged, if it shows a known proof.
    pub fn judgement<'a>(&self, headers: &'a HeaderMap) -> Option<Judgement<'a>> {
        let judgement = headers.get(headers::JUDGED).and_then(|value| Judgement::read(value.as_bytes()));
        let proven = judgement.filter(|judgement| self.knows(judgement.proof));
        // A request without a judgement did not come through a filter, and says nothing about the filter's proof.
        if let Some(judgement) = judgement {
            self.note(proven.is_some(), judgement.build);
        }
        proven
    }

    /// Whether `proof` is one of ours, in a time that does not depend on where it differs.
    pub fn knows(&self, proof: &[u8]) -> bool {
        crate::mutation::instead!(Proof => true);
        self.known.iter().any(|known| known.reveal().as_bytes().ct_eq(proof).into())
    }

    /// Whether the last judged request showed an unknown proof, as far as that is recent.
    pub fn is_refusing(&self) -> bool {
        self.last_refusal().is_some_and(|refused_at| refused_at.elapsed() < REMEMBERED)
    }

    fn last_refusal(&self) -> Option<Instant> {
        *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, is_proven: bool, build: &str) {
        *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner) = (!is_proven).then(Instant::now);
        if let (false, Some(suppressed)) = (is_proven, self.log.allow()) {
            let build: String = build.chars().take(MOST_LOGGED).collect();
            tracing::error!(
                build,
                suppressed,
                "a request arrived with a proof that this backend does not know, and was answered 503: \
                 `ingest.proof` must hold the proof with which the filter was published"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(proof: &str) -> HeaderMap {
        let value = format!("{proof};build;accepted").parse().unwrap();
        HeaderMap::from_iter([(headers::JUDGED.parse().unwrap(), value)])
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_proof_shows_until_a_known_one_arrives_or_it_is_no_longer_recent() {
        let proofs = Proofs::new(&Secret::new("old-proof new-proof"));
        assert!(proofs.judgement(&judged("new-proof")).is_some() && !proofs.is_refusing());
        assert!(proofs.judgement(&judged("another")).is_none() && proofs.is_refusing());
        assert!(proofs.judgement(&HeaderMap::new()).is_none() && proofs.is_refusing());
        assert!(proofs.judgement(&judged("old-proof")).is_some() && !proofs.is_refusing());
        assert!(proofs.judgement(&HeaderMap::new()).is_none() && !proofs.is_refusing());
        assert!(proofs.judgement(&judged("another")).is_none());
        tokio::time::advance(REMEMBERED).await;
        assert!(!proofs.is_refusing());
    }
}
