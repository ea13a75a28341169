//! The configuration file with which the backend's other commands use a running stack.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{PROOF, Stack, programs::backend_settings};

impl Stack {
    /// The file to which [`write_config`](Self::write_config) writes the first backend's settings.
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("backend.toml")
    }

    /// The file to which [`write_config`](Self::write_config) writes the proof.
    pub fn proof_file(&self) -> PathBuf {
        self.folder().join("proof")
    }

    /// Writes the first backend's settings and the proof to files that only their owner can read.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_config(&self) -> Result<()> {
        let proof_file = self.proof_file();
        let settings = backend_settings(self.ports, &self.options).with_all(&self.own_settings[0]);
        let settings = settings.with("ingest.proof", "").with("ingest.proof_file", proof_file.display());
        write_private(&proof_file, PROOF)?;
        write_private(&self.config_file(), &settings.file())
    }
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(file)?.write_all(text.as_bytes())
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}
