//! Publishing a filter build, and going back to an earlier one.

use std::{
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use envelope::{Authenticity, Policy, settings::SettingsError};
use filter::settings::Settings;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    ecds,
    edge::{Edge, EdgeError, Proven},
    rehearsal::{RehearsalError, rehearse},
    store::{Publication, Store, hex},
    traffic::{Judge, Snapshot},
};

/// What to publish.
#[derive(Debug, Clone)]
pub struct Build {
    /// The WebAssembly module.
    pub module: Vec<u8>,
    /// The policy's settings, as `filter::settings` reads them.
    pub policy: Value,
    /// The secret that the filter shows to the backend.
    pub proof: String,
}

/// How to publish.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Where to.
    pub store: Store,
    /// The Envoy to verify the swap with; none where none runs yet.
    pub edge: Option<Edge>,
    /// What to do where that Envoy, or a backend behind it, does not answer.
    pub unanswered: Unanswered,
    /// Whether to ask the backends for the proof.
    pub backends: Backends,
    /// The Envoy program to rehearse builds with; none where there is none here.
    pub rehearse_with: Option<PathBuf>,
    /// How long Envoy may take until the build reports itself, and a backend until it can be asked.
    pub patience: Duration,
    /// How long to watch traffic before the build is trusted.
    pub watch: Duration,
    /// By how much the share of failed answers, or of rejected authenticated requests, may rise meanwhile, 0 to 1.
    pub max_rise: f64,
    /// How many publications to keep for a rollback.
    pub keep: usize,
}

/// What to do where nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The publication fails, and nothing is changed.
    Fail,
    /// The build is left for Envoy to load when it starts; a backend that does not answer is not waited for to be asked.
    Stage,
}

/// Whether the backends have to know the proof before a build is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backends {
    /// They are asked through Envoy.
    Ask,
    /// They are not asked.
    Skip,
}

/// Whether the build was seen at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every probe was answered by the build, and the backends know its proof.
    Verified,
    /// Every probe was answered by the build. No backend was asked.
    Unproven,
    /// No Envoy was there to ask; it will load the build when it starts.
    Staged,
    /// No Envoy was there to ask, and it has been given exactly this build before.
    Unchanged,
}

/// Why a build is not being served.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The settings are wrong. Nothing was changed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The module is not WebAssembly. Nothing was changed.
    #[error("the file is not a WebAssembly module: it does not begin with \\0asm")]
    NotWasm,
    /// The build failed its rehearsal. Nothing was changed.
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    /// The shared directory cannot be read or written.
    #[error("the shared directory: {0}")]
    Store(#[from] io::Error),
    /// The running Envoy could not be asked. Nothing was changed.
    #[error(
        "{0}. Nothing was changed; check --edge, or pass --stage to leave the build for Envoy to load when it starts"
    )]
    NoEnvoy(EdgeError),
    /// A backend refuses the proof. Nothing was changed.
    #[error(
        "a backend does not know the proof of build {0}, so it would store no event. Nothing was changed; give the backends \
         the same proof (`ingest.proof`, which takes the old and the new one separated by a space)"
    )]
    UnknownProof(String),
    /// No backend could be asked whether it knows the proof. Nothing was changed.
    #[error(
        "no backend could be asked whether it knows the proof: {0}. Nothing was changed; start a backend, or pass \
         --without-backend to publish without asking"
    )]
    NoBackend(String),
    /// Envoy did not take the build, or something speaks against it. The one before is being served again.
    #[error("build {build} was not kept, and the one before is being served again: {reason}")]
    Rejected {
        /// The build that was refused.
        build: String,
        /// What speaks against it.
        reason: String,
    },
    /// There is no build to go back to.
    #[error("there is no earlier build to go back to; `guardctl status` lists those that are kept")]
    NothingBefore,
}

/// Each of Envoy's workers takes the update by itself, and there may be several backends: so many questions in a row, each on
/// a connection of its own, have to be answered well.
const PROBES: usize = 16;
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(20);

impl Publisher {
    /// Makes Envoy serve `build`, and makes sure of it.
    ///
    /// # Errors
    /// Where the build is not served in the end.
    pub fn publish(&self, build: &Build) -> Result<(Publication, Outcome), PublishError> {
        if !build.module.starts_with(b"\0asm") {
            return Err(PublishError::NotWasm);
        }
        let policy_hash = Sha256::digest(format!("{}\0{}", build.policy, build.proof));
        let label = |sha256: &str| format!("{}-{}", &sha256[..12], &hex(&policy_hash)[..8]);
        let settings = |label: &str| json!({ "build": label, "proof": build.proof, "policy": build.policy });
        let checked = Settings::parse(settings(&label(&hex(&Sha256::digest(&build.module)))).to_string().as_bytes())?;
        ensure_reachable(&checked.policy)?;

        let _lock = self.store.lock()?;
        let (sha256, path) = self.store.keep_build(&build.module)?;
        let label = label(&sha256);
        let number = self.next_number()?;
        let response = ecds::response(&format!("{number}-{label}"), &path, &settings(&label));
        if let Some(envoy) = &self.rehearse_with {
            rehearse(envoy, &response)?;
        }
        self.swap(Publication { number, build: label, sha256, response })
    }

    /// Makes Envoy serve again what it served before, or the kept build of that name.
    ///
    /// # Errors
    /// Where there is no such build, or where it is not served in the end.
    pub fn rollback(&self, to: Option<&str>) -> Result<(Publication, Outcome), PublishError> {
        let _lock = self.store.lock()?;
        let publications = self.store.publications()?;
        let current = self.store.current()?.ok_or(PublishError::NothingBefore)?;
        let wanted = |earlier: &&Publication| match to {
            Some(build) => earlier.build == build,
            // A publication with a higher number was never served: its publisher died first.
            None => earlier.number < current.number && earlier.build != current.build,
        };
        let earlier = publications.iter().rev().find(wanted).ok_or(PublishError::NothingBefore)?;
        let number = self.next_number()?;
        let mut response = earlier.response.clone();
        response["version_info"] = json!(format!("{number}-{}", earlier.build));
        self.swap(Publication { number, response, ..earlier.clone() })
    }

    fn next_number(&self) -> io::Result<u64> {
        Ok(self.store.publications()?.last().map_or(1, |newest| newest.number + 1))
    }

    fn swap(&self, new: Publication) -> Result<(Publication, Outcome), PublishError> {
        let (before, current) = (self.store.served()?, self.store.current()?);
        let is_known = current.is_some_and(|current| current.build == new.build);
        let Some(edge) = &self.edge else { return self.stage(new) };
        match edge.snapshot() {
            Ok(_) => {}
            Err(EdgeError::NoAnswer(_)) if is_known => return Ok((new, Outcome::Unchanged)),
            Err(EdgeError::NoAnswer(_)) if before.is_none() || self.unanswered == Unanswered::Stage => {
                return self.stage(new);
            }
            Err(error) => return Err(PublishError::NoEnvoy(error)),
        }
        let settings = ecds::settings(&new.response);
        let proof = settings.as_ref().map(|settings| settings.proof.as_str());
        let is_required = self.unanswered == Unanswered::Fail && !is_known;
        let outcome = self.ask_backends(edge, proof, &new.build, is_required)?;

        let old = before.as_ref().and_then(ecds::settings).map(|settings| settings.policy);
        let policy = settings.map(|settings| settings.policy).unwrap_or_default();
        let counted = edge.snapshot().map_err(PublishError::NoEnvoy)?;
        let judge = Judge::new(counted.clone(), old.as_ref(), &policy, self.max_rise);
        self.store.record(&new)?;
        self.store.serve(&new.response)?;
        let kept = self
            .verify(edge, &counted, &judge, &new.build)
            .and_then(|()| self.verify_proof(edge, outcome, &new.build))
            .and_then(|()| self.watch(edge, &judge));
        match kept {
            Ok(()) => {
                self.store.prune(self.keep)?;
                Ok((new, outcome))
            }
            Err(reason) => {
                if let Some(before) = before {
                    self.store.serve(&before)?;
                }
                self.store.forget(&new)?;
                Err(PublishError::Rejected { build: new.build, reason })
            }
        }
    }

    fn stage(&self, new: Publication) -> Result<(Publication, Outcome), PublishError> {
        self.store.record(&new)?;
        self.store.serve(&new.response)?;
        self.store.prune(self.keep)?;
        Ok((new, Outcome::Staged))
    }

    /// Asks the backends for the proof before anything is changed: Envoy retries a request with the judgement that it got,
    /// so that one judged with an unknown proof would be lost even if the build before came back at once.
    fn ask_backends(
        &self,
        edge: &Edge,
        proof: Option<&str>,
        build: &str,
        is_required: bool,
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
                // Then the backends are asked through the new build, if they have to be: Envoy may be as old as its filter.
                Proven::Unsupported => return Ok(if is_required { Outcome::Verified } else { Outcome::Unproven }),
                Proven::Unasked(reason) => {
                    proven = 0;
                    if Instant::now() > deadline {
                        let unproven = PublishError::NoBackend(reason);
                        return if is_required { Err(unproven) } else { Ok(Outcome::Unproven) };
                    }
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Makes sure that the backends know the proof that the build itself sends.
    fn verify_proof(&self, edge: &Edge, outcome: Outcome, build: &str) -> Result<(), String> {
        if outcome != Outcome::Verified {
            return Ok(());
        }
        self.until_all(|| match edge.prove(None) {
            Proven::Yes(Some(judged_by)) if judged_by == build => Ok(Answer::Good),
            Proven::Yes(_) => Ok(Answer::Bad("the backend was not asked by the build".to_owned())),
            Proven::No => Err("a backend does not know the proof that the build sends".to_owned()),
            Proven::Unsupported => Ok(Answer::Bad("the build cannot ask the backend for its proof".to_owned())),
            Proven::Unasked(reason) => Ok(Answer::Bad(format!("no backend could be asked for the proof: {reason}"))),
        })
    }

    /// Watches traffic until the build is trusted.
    fn watch(&self, edge: &Edge, judge: &Judge) -> Result<(), String> {
        let said = |error: EdgeError| error.to_string();
        let begun = edge.snapshot().map_err(said)?;
        let deadline = Instant::now() + self.watch;
        loop {
            if let Some(objection) = judge.objection(&begun, &edge.snapshot().map_err(said)?) {
                return Err(objection);
            }
            if Instant::now() > deadline {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100).min(self.watch));
        }
    }

    fn verify(&self, edge: &Edge, before: &Snapshot, judge: &Judge, build: &str) -> Result<(), String> {
        self.until_all(|| {
            let reason = match edge.probe() {
                Ok(serving) if serving == build => return Ok(Answer::Good),
                Ok(other) => format!("build {other} still answers"),
                Err(error) => error.to_string(),
            };
            let Ok(now) = edge.snapshot() else { return Ok(Answer::Bad(reason)) };
            if now.refused_updates > before.refused_updates {
                return Err("Envoy refused it; its log says why".to_owned());
            }
            // The probes share the VM with everybody's requests.
            judge.crash(&now).map_or(Ok(Answer::Bad(reason)), Err)
        })
    }

    /// Asks until enough answers in a row are good.
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

/// Envoy merges slashes, so a token after a path that ends with one would never match, and every event would be rejected.
fn ensure_reachable(policy: &Policy) -> Result<(), SettingsError> {
    let has_token = policy.ways().any(|(_, way)| matches!(way, Authenticity::PathToken { .. }));
    if !has_token || !policy.path.ends_with('/') {
        return Ok(());
    }
    let problem = "must not end with / if path tokens are used: Envoy merges slashes, so no request would match";
    Err(SettingsError { key: "policy.path".to_owned(), problem: problem.to_owned() })
}

/// An answer to one question, which may be asked again where it is not good.
enum Answer {
    Good,
    Bad(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_at_which_no_token_would_match_is_an_error() {
        let tokens = json!({ "kind": "path_token", "tokens": ["0123456789abcdef"] });
        for (policy, is_reachable) in [
            (json!({ "path": "/" }), true),
            (json!({ "authenticity": tokens }), true),
            (json!({ "path": "/", "authenticity": tokens }), false),
            (json!({ "path": "/hooks/", "authenticity": tokens }), false),
            (json!({ "path": "/", "authenticity": { "kind": "none", "or": tokens } }), false),
        ] {
            let settings = json!({ "build": "b1", "proof": "0123456789abcdef", "policy": policy });
            let settings = Settings::parse(settings.to_string().as_bytes()).unwrap();
            assert_eq!(ensure_reachable(&settings.policy).is_ok(), is_reachable, "{policy}");
        }
    }
}
