//! Arguments that name a build of the filter, for the commands that publish or render one.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use envelope::filter_settings::Settings;

use super::tell;
use crate::{build::Build, policy_file, store::hex, unreadable::Unreadable};

/// The build: the module and its settings.
#[derive(Args)]
pub(super) struct BuildArguments {
    /// The WebAssembly module.
    #[arg(long)]
    wasm: PathBuf,
    /// The policy (TOML). Default: the settings of the shipped policy.toml.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Path tokens, separated by white space, instead of those in the policy; sets
    /// `authenticity.kind` to "path_token".
    #[arg(long, env = "WEBHOOK_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// The file with the proof, the secret by which the backend recognizes the filter. Created with
    /// a random proof if it does not exist.
    #[arg(long)]
    proof_file: PathBuf,
}

/// The Envoy to rehearse the build with.
#[derive(Args)]
pub(super) struct RehearsalArguments {
    /// The Envoy program to rehearse the build with. A name without a directory is looked up in the
    /// PATH; if it is not there, the rehearsal is skipped.
    #[arg(long, default_value = "envoy")]
    rehearse_with: PathBuf,
}

impl BuildArguments {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// If one cannot be read, or a new proof cannot be written.
    pub(super) fn read(&self) -> Result<Build> {
        Ok(Build {
            module: fs::read(&self.wasm).map_err(|error| Unreadable { path: self.wasm.clone(), error })?,
            policy: policy_file::read(self.policy.as_deref(), self.token.as_deref())?,
            proof: read_or_make_proof(&self.proof_file)?,
        })
    }
}

impl RehearsalArguments {
    /// Returns the program's path, or none if the rehearsal is skipped.
    ///
    /// # Errors
    /// If the argument names a path that does not exist.
    pub(super) fn program(&self) -> Result<Option<PathBuf>> {
        let program = &self.rehearse_with;
        if program.components().count() > 1 {
            ensure!(program.is_file(), "--rehearse-with names {}, which does not exist", program.display());
            return Ok(Some(program.clone()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
        if found.is_none() {
            tell(&format!("no {} on the PATH, skipping the rehearsal", program.display()));
        }
        Ok(found)
    }
}

fn read_or_make_proof(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(proof) => Ok(proof.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; Settings::PROOF_MIN * 2];
            getrandom::fill(&mut random)
                .map_err(anyhow::Error::msg)
                .context("cannot get random numbers from the system")?;
            let proof = hex(&random);
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(proof.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(proof)
        }
        Err(error) => Err(Unreadable { path: path.to_owned(), error }.into()),
    }
}
