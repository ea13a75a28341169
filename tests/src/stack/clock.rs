//! The clock of one backend, simulated with libfaketime. Only the time of day jumps. The monotonic
//! clock, by which programs measure durations, does not: that is what happens on a machine whose
//! time is set.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{backend_settings::BackendSettings, tools};

/// A backend's clock.
pub struct Clock {
    /// The library reads this file whenever the program asks for the time.
    file: PathBuf,
}

impl Clock {
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let clock = Self { file: folder.join(name).with_extension("clock") };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock ahead of this machine's by `ahead_s` seconds, or behind it if that is
    /// negative.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, ahead_s: i64) -> Result<()> {
        // The backend may read the file at any time, so it is replaced in one step.
        let written = self.file.with_extension("clock-new");
        fs::write(&written, format!("{ahead_s:+}\n"))?;
        Ok(fs::rename(written, &self.file)?)
    }

    /// The environment variables that make a backend use this clock.
    ///
    /// # Errors
    /// If libfaketime cannot be built.
    pub fn settings(&self) -> Result<BackendSettings> {
        let mut settings = BackendSettings::default();
        settings.set_variable("LD_PRELOAD", tools::faketime()?.display());
        settings.set_variable("FAKETIME_TIMESTAMP_FILE", self.file.display());
        settings.set_variable("FAKETIME_NO_CACHE", 1);
        settings.set_variable("FAKETIME_DONT_FAKE_MONOTONIC", 1);
        settings.set_variable("NO_FAKE_STAT", 1);
        Ok(settings)
    }
}
