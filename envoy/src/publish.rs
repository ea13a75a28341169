//! Publishes a build of the filter, and rolls back to an earlier one.

use std::{io, path::PathBuf, time::Duration};

use serde_json::json;

use crate::{
    build::{Build, Checked},
    ecds,
    edge::{Edge, EdgeError},
    rehearsal::rehearse,
    store::{Publication, Store},
    traffic::Judge,
};

mod checks;
mod error;

use checks::Proof;
pub use error::PublishError;

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
    /// No Envoy answered, so the build was not verified. Envoy will load it when it starts.
    Staged,
    /// Likewise, but the same build was published before.
    Unchanged,
}

/// The time that a restart of Envoy takes, with some reserve.
const RESTART: Duration = Duration::from_secs(10);

impl Publisher {
    /// Makes Envoy serve `build`, and verifies it.
    ///
    /// # Errors
    /// If Envoy does not serve the build in the end.
    pub fn publish(&self, build: &Build) -> Result<(Publication, Outcome), PublishError> {
        let checked = build.check()?;
        let _lock = self.store.lock()?;
        let (_, path) = self.store.keep_build(&build.module)?;
        let number = self.next_number()?;
        let Checked { name, sha256, settings } = checked;
        let response = ecds::response(&format!("{number}-{name}"), &path, &settings);
        if let Some(envoy) = &self.rehearse_with {
            rehearse(envoy, &response)?;
        }
        self.swap(Publication { number, build: name, sha256, response })
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
        // If an unverified build would replace another one, an Envoy that is being restarted gets the
        // time to come back.
        let replaces_unverified = self.unanswered == Unanswered::Stage && before.is_some() && !is_known;
        let wait = if replaces_unverified { self.patience.min(RESTART) } else { Duration::ZERO };
        match edge.snapshot_within(wait) {
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
