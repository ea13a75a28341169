//! Publishing a filter build, and going back to an earlier one.

use std::{
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use envelope::settings::SettingsError;
use filter::settings::Settings;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    ecds,
    edge::{Edge, Judged},
    rehearsal::{RehearsalError, rehearse},
    store::{Publication, Store, hex},
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
    /// The Envoy program to rehearse builds with; none where there is none here.
    pub rehearse_with: Option<PathBuf>,
    /// How long Envoy may take until the build reports itself.
    pub patience: Duration,
    /// How long to watch the build's refusals before it is trusted.
    pub watch: Duration,
    /// By how much the share of refused requests may rise meanwhile, 0 to 1.
    pub max_rise: f64,
    /// How many publications to keep for a rollback.
    pub keep: usize,
}

/// Whether the build was seen at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every probe was answered by the build.
    Verified,
    /// No Envoy was there to ask; it will load the build when it starts.
    Staged,
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
    /// Envoy did not take the build, or the build did not report itself. The one before is being served again.
    #[error("build {build} was not taken, and the one before is being served again: {reason}")]
    Refused {
        /// The build that was refused.
        build: String,
        /// What Envoy says, or does not say.
        reason: String,
    },
    /// There is no build to go back to.
    #[error("there is no earlier build to go back to; `guardctl status` lists those that are kept")]
    NothingBefore,
}

/// Each of Envoy's workers takes the update by itself: so many probes in a row have to be answered by the new build.
const PROBES: usize = 16;
/// Fewer requests than these say nothing about a build's refusals.
const TELLING: u64 = 20;

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
        Settings::parse(settings(&label(&hex(&Sha256::digest(&build.module)))).to_string().as_bytes())?;

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
        let before = self.store.served()?;
        let before_swap = self.edge.as_ref().and_then(|edge| Some((edge.refused_updates().ok()?, edge.judged().ok()?)));
        self.store.record(&new)?;
        self.store.serve(&new.response)?;
        let verdict = match (&self.edge, before_swap) {
            (Some(edge), Some((refused_before, judged_before))) => self
                .verify(edge, refused_before, &new.build)
                .and_then(|outcome| self.watch(edge, judged_before).map(|()| outcome)),
            _ => Ok(Outcome::Staged),
        };
        match verdict {
            Ok(outcome) => {
                self.store.prune(self.keep)?;
                Ok((new, outcome))
            }
            Err(reason) => {
                if let Some(before) = before {
                    self.store.serve(&before)?;
                }
                self.store.forget(&new)?;
                Err(PublishError::Refused { build: new.build, reason })
            }
        }
    }

    /// Compares the share of refused requests while the build is watched with that of all the time before.
    fn watch(&self, edge: &Edge, before: Judged) -> Result<(), String> {
        let usual = before.refused_share(TELLING).unwrap_or_default();
        let begun = edge.judged()?;
        let deadline = Instant::now() + self.watch;
        while Instant::now() < deadline {
            thread::sleep(Duration::from_millis(100).min(self.watch));
            let share = edge.judged()?.since(begun).refused_share(TELLING).unwrap_or_default();
            if share > usual + self.max_rise {
                let (share, usual) = (share * 100.0, usual * 100.0);
                return Err(format!("it refuses {share:.0} % of the requests, where {usual:.0} % were refused before"));
            }
        }
        Ok(())
    }

    fn verify(&self, edge: &Edge, refused_before: u64, build: &str) -> Result<Outcome, String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if edge.refused_updates().is_ok_and(|refused| refused > refused_before) {
                return Err("Envoy refused it; its log says why".to_owned());
            }
            let reason = match (0..PROBES).map(|_| edge.probe()).find(|probed| probed.as_deref() != Ok(build)) {
                None => return Ok(Outcome::Verified),
                Some(Ok(other)) => format!("build {other} still answers"),
                Some(Err(error)) => error,
            };
            if Instant::now() > deadline {
                return Err(reason);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
