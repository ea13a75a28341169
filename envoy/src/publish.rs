//! Publishes a build of the filter, and rolls back to an earlier one.

use std::{io, path::PathBuf, time::Duration};

use envelope::{Authenticity, Policy, filter_settings::Settings, settings::SettingsError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    ecds,
    edge::{Edge, EdgeError},
    rehearsal::rehearse,
    store::{Publication, Store, hex},
    traffic::Judge,
};

mod checks;
mod error;

use checks::Proof;
pub use error::PublishError;

/// One version of the filter: the module with its settings.
#[derive(Debug, Clone)]
pub struct Build {
    /// The WebAssembly module.
    pub module: Vec<u8>,
    /// The policy, as `envelope::filter_settings` reads it.
    pub policy: Value,
    /// The secret by which the backend recognizes the filter.
    pub proof: String,
}

/// Publishes builds to one Envoy.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The directory shared with Envoy.
    pub store: Store,
    /// The Envoy to verify the swap with, or none if none runs yet.
    pub edge: Option<Edge>,
    /// What to do if that Envoy, or a backend behind it, does not answer.
    pub unanswered: Unanswered,
    /// Whether to ask the backends about the proof.
    pub backends: Backends,
    /// The Envoy program to rehearse builds with, or none to skip the rehearsal.
    pub rehearse_with: Option<PathBuf>,
    /// The longest time until the build answers, and until a backend can be asked.
    pub patience: Duration,
    /// The time to watch traffic before the build is kept.
    pub watch: Duration,
    /// The highest acceptable rise of the share of 5xx answers, or of rejected authenticated
    /// requests, during that time, 0 to 1.
    pub max_rise: f64,
    /// The number of publications to keep for rollbacks.
    pub keep: usize,
}

/// What to do if Envoy or the backend does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The publication fails, and nothing changes.
    Fail,
    /// Envoy loads the build when it starts; if no backend answers, the publication goes on without
    /// its answer.
    Stage,
}

/// Whether to check that the backends know the proof before a build serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backends {
    /// Ask them through Envoy.
    Ask,
    /// Do not ask them.
    Skip,
}

/// How far a publication was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The build answered every probe, and the backends know its proof.
    Verified,
    /// The build answered every probe. No backend was asked, or none answered.
    Unproven,
    /// No Envoy answered. It will load the build when it starts.
    Staged,
    /// No Envoy answered, and the same build was published before.
    Unchanged,
}

impl Publisher {
    /// Makes Envoy serve `build`, and verifies it.
    ///
    /// # Errors
    /// If Envoy does not serve the build in the end.
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

    /// Makes Envoy serve the previous build, or the kept build with that name.
    ///
    /// # Errors
    /// If there is no such build, or Envoy does not serve it in the end.
    pub fn rollback(&self, to: Option<&str>) -> Result<(Publication, Outcome), PublishError> {
        let _lock = self.store.lock()?;
        let publications = self.store.publications()?;
        let current = self.store.current()?.ok_or(PublishError::NothingBefore)?;
        let wanted = |earlier: &&Publication| match to {
            Some(build) => earlier.build == build,
            // A publication with a higher number never served: its publisher died first.
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
        let before = self.store.served()?;
        let current = self.store.current()?;
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
        let need = if is_required { Proof::Required } else { Proof::Optional };
        let outcome = self.ask_backends(edge, proof, &new.build, need)?;

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
}

/// Rejects a policy under which no token could match: Envoy merges slashes, so the path that a
/// token follows must not end with one.
fn ensure_reachable(policy: &Policy) -> Result<(), SettingsError> {
    let has_token = policy.ways().any(|(_, way)| matches!(way, Authenticity::PathToken { .. }));
    if !has_token || !policy.path.ends_with('/') {
        return Ok(());
    }
    let problem = "must not end with / if path tokens are used: Envoy merges slashes, so no request would match";
    Err(SettingsError { key: "policy.path".to_owned(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_after_which_no_token_can_match_is_an_error() {
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
