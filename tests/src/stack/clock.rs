//! The clock that one backend sees, by way of libfaketime. Only the time of day jumps: the monotonic clock, by which
//! programs measure durations, does not, as on a machine whose time is set.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::tools;

/// A backend's clock.
pub struct Clock {
    /// Read by the library each time the program asks for the time.
    file: PathBuf,
}

impl Clock {
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let clock = Self { file: folder.join(name).with_extension("clock") };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock: ahead of this machine's by that many seconds, or behind it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, ahead_s: i64) -> Result<()> {
        // In one step, since the backend may read it at any time.
        let written = self.file.with_extension("clock-new");
        fs::write(&written, format!("{ahead_s:+}\n"))?;
        Ok(fs::rename(written, &self.file)?)
    }

    /// What the backend has to find in its environment.
    pub(super) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![
            ("LD_PRELOAD", tools::faketime()?.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ])
    }
}
