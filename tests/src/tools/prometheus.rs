//! Prometheus, and promtool, which checks metrics and rules.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{apt_install, folder, on_path, once, say, unpack};

/// The Debian package that contains both.
const PACKAGE: &str = "prometheus";

/// Returns the path of Prometheus: from the PATH, or from Debian's package.
///
/// # Errors
/// If neither works.
pub fn prometheus() -> Result<PathBuf> {
    program("prometheus")
}

/// Returns the path of promtool: from the PATH, or from Debian's package.
///
/// # Errors
/// If neither works.
pub fn promtool() -> Result<PathBuf> {
    program("promtool")
}

fn program(name: &str) -> Result<PathBuf> {
    once(PACKAGE, || {
        let unpacked = folder()?.join(PACKAGE);
        if !unpacked.is_dir() && on_path("promtool").is_none() {
            say(&format!("promtool is not on the PATH; unpacking Debian's package {PACKAGE}"));
            unpack(PACKAGE, &unpacked).or_else(|error| {
                say(&format!("{PACKAGE} cannot be unpacked ({error:#}); installing it with apt-get"));
                apt_install(&[PACKAGE]).context("Prometheus is missing: add prometheus and promtool to the PATH")
            })?;
        }
        Ok(unpacked.join("usr/bin"))
    })
    .and_then(|folder| {
        let unpacked = Some(folder.join(name)).filter(|unpacked| unpacked.is_file());
        on_path(name).or(unpacked).with_context(|| format!("Debian's package {PACKAGE} does not contain {name}"))
    })
}
