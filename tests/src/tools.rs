//! Finds the programs that the edge needs, or fetches them: the ordinary way first, then what works without it.
//!
//! What is fetched goes into `target/tools`. Each tool says in one line which way was taken.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};

mod faketime;
mod servers;
mod wasm;

pub use faketime::{faketime, has_faketime};
pub use servers::{envoy, ip, redis_server};
pub use wasm::{run_filter_tests, wasm_filter, wasm_module};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.parent().unwrap_or(manifest).to_owned()
    });
    &ROOT
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |target| workspace().join(target))
}

/// Builds one of the workspace's programs as `cargo test` itself would, and returns where it is.
///
/// # Errors
/// Where it does not build.
pub fn workspace_binary(package: &str, binary: &str, features: &[&str]) -> Result<PathBuf> {
    once(binary, || {
        let target = target();
        let mut cargo = Command::new(cargo());
        // With `tests` beside it, so that the dependencies have the features, and are those, that this program has.
        cargo.current_dir(workspace()).args(["build", "--package", "harness", "--package", package, "--bin", binary]);
        cargo.args(features.iter().flat_map(|feature| ["--features", feature])).arg("--target-dir");
        run(cargo.arg(&target)).with_context(|| format!("cannot build {binary}"))?;
        Ok(target.join("debug").join(binary))
    })
}

/// Builds one of the workspace's programs as it is shipped, and returns where it is.
///
/// # Errors
/// Where it does not build.
pub fn release_binary(package: &str, binary: &str) -> Result<PathBuf> {
    once(&format!("{binary} (release)"), || {
        let target = target();
        let mut cargo = Command::new(cargo());
        cargo.current_dir(workspace()).args(["build", "--release", "--package", package, "--bin", binary]);
        run(cargo.arg("--target-dir").arg(&target)).with_context(|| format!("cannot build {binary}"))?;
        Ok(target.join("release").join(binary))
    })
}

/// Looks for a tool, or builds it, once in the life of this process, however many tests want it at the same time.
fn once(name: &str, find: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = found.get(name) {
        return Ok(path.clone());
    }
    let path = find()?;
    found.insert(name.to_owned(), path.clone());
    Ok(path)
}

fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn folder() -> Result<PathBuf> {
    let folder = target().join("tools");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Tells the person who waits what is being done; not through the macros, whose output tests keep back.
pub fn say(line: &str) {
    _ = writeln!(io::stderr(), "  {line}");
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let program = command.get_program().display().to_string();
    match status.with_context(|| format!("cannot run {program}"))? {
        status if status.success() => Ok(()),
        status => bail!("{program} ended with {status}"),
    }
}

/// What a command prints, if it runs and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Installs Debian packages, where this is a Debian and we may.
fn apt_install(packages: &[&str]) -> Result<()> {
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|uid| uid == "0");
    if on_path("apt-get").is_none() || !is_root {
        bail!("apt-get is missing, or needs root: install {} yourself", packages.join(" "));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=120"])
            .stdout(Stdio::null());
        apt
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages))
}
