//! Checks a build in the running Envoy: that it serves, that the backends know its proof, and that
//! traffic raises no objection.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Backends, Outcome, PublishError, Publisher};
use crate::{
    edge::{Edge, EdgeError, Proven},
    traffic::{Judge, Snapshot},
};

/// The number of questions in a row that must get a good answer. Each uses its own connection,
/// because each of Envoy's workers applies the update by itself, and there may be several backends.
const PROBES: usize = 16;
/// The time before a question is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// An answer to a question that can be asked again.
enum Answer {
    Good,
    Bad(String),
}

/// Whether a publication needs an answer from the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It fails without one.
    Required,
    /// It goes on without one.
    Optional,
}

impl Publisher {
    /// Asks the backends whether they know the proof, before anything changes. Envoy retries a
    /// request with the judgement that it got, so a request with an unknown proof would be lost
    /// even if the previous build came back at once.
    pub(super) fn ask_backends(
        &self,
        edge: &Edge,
        proof: Option<&str>,
        build: &str,
        need: Proof,
    ) -> Result<Outcome, PublishError> {
        if self.backends == Backends::Skip {
            return Ok(Outcome::Unproven);
        }
        let deadline = Instant::now() + self.patience;
        let mut proven = 0;
        loop {
            match edge.prove(proof) {
                Proven::Yes(_) if proven + 1 == PROBES => return Ok(Outcome::Verified),
                Proven::Yes(_) => proven += 1,
                Proven::No => return Err(PublishError::UnknownProof(build.to_owned())),
                // The serving filter is too old to ask. If an answer is required, `verify_proof`
                // asks through the new build.
                Proven::Unsupported if need == Proof::Required => return Ok(Outcome::Verified),
                Proven::Unsupported => return Ok(Outcome::Unproven),
                Proven::Unasked(reason) => {
                    proven = 0;
                    if Instant::now() > deadline {
                        return match need {
                            Proof::Required => Err(PublishError::NoBackend(reason)),
                            Proof::Optional => Ok(Outcome::Unproven),
                        };
                    }
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Verifies that the backends know the proof that the build itself sends.
    pub(super) fn verify_proof(&self, edge: &Edge, outcome: Outcome, build: &str) -> Result<(), String> {
        if outcome != Outcome::Verified {
            return Ok(());
        }
        self.until_all(|| match edge.prove(None) {
            Proven::Yes(Some(judged_by)) if judged_by == build => Ok(Answer::Good),
            Proven::Yes(_) => {
                Ok(Answer::Bad("requests that reach the backend still come from another build".to_owned()))
            }
            Proven::No => Err("a backend does not know the proof that the build sends".to_owned()),
            Proven::Unsupported => {
                Ok(Answer::Bad("the build cannot ask the backend whether it knows the proof".to_owned()))
            }
            Proven::Unasked(reason) => {
                Ok(Answer::Bad(format!("no backend could be asked whether it knows the proof: {reason}")))
            }
        })
    }

    /// Watches traffic for `self.watch`.
    pub(super) fn watch(&self, edge: &Edge, judge: &Judge) -> Result<(), String> {
        let describe = |error: EdgeError| error.to_string();
        let begun = edge.snapshot().map_err(describe)?;
        let deadline = Instant::now() + self.watch;
        loop {
            if let Some(objection) = judge.objection(&begun, &edge.snapshot().map_err(describe)?) {
                return Err(objection);
            }
            if Instant::now() > deadline {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100).min(self.watch));
        }
    }

    /// Verifies that every worker of Envoy serves the build.
    pub(super) fn verify(&self, edge: &Edge, before: &Snapshot, judge: &Judge, build: &str) -> Result<(), String> {
        self.until_all(|| {
            let reason = match edge.probe() {
                Ok(serving) if serving == build => return Ok(Answer::Good),
                Ok(other) => format!("build {other} still answers"),
                Err(error) => error.to_string(),
            };
            let Ok(now) = edge.snapshot() else { return Ok(Answer::Bad(reason)) };
            if now.rejected_updates > before.rejected_updates {
                return Err("Envoy rejected the build; see Envoy's log".to_owned());
            }
            // If the filter crashes, a probe may fail: it runs in the same VM as all other
            // requests.
            judge.crash(&now).map_or(Ok(Answer::Bad(reason)), Err)
        })
    }

    /// Asks until [`PROBES`] answers in a row are good.
    fn until_all(&self, ask: impl Fn() -> Result<Answer, String>) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        let mut good = 0;
        while good < PROBES {
            match ask()? {
                Answer::Good => good += 1,
                Answer::Bad(reason) if Instant::now() > deadline => return Err(reason),
                Answer::Bad(_) => {
                    good = 0;
                    thread::sleep(PAUSE);
                }
            }
        }
        Ok(())
    }
}
