//! Finds the programs that the harness needs, and installs those that are missing.
//!
//! Most downloads go to `target/tools`. Packages that `apt-get` installs are installed for the
//! whole system; this happens only as root. One printed line says what is installed, and from
//! where.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};

mod faketime;
mod kubernetes;
mod prometheus;
mod receivers;
mod servers;
mod wasm;

pub use faketime::{faketime, has_faketime};
pub use kubernetes::{kustomize, python, validate_resources, yaml};
pub use prometheus::{prometheus, promtool};
pub use receivers::Receiver;
pub use servers::{chromedriver, envoy, ip, redis_server};
pub use wasm::{run_filter_tests, wasm_filter, wasm_module};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.parent().unwrap_or(manifest).to_owned()
    });
    &ROOT
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |target| workspace().join(target))
}

/// Builds one of the workspace's programs with the profile of `cargo test`, and returns its path.
///
/// # Errors
/// If it does not compile.
pub fn workspace_binary(package: &str, binary: &str, features: &[&str]) -> Result<PathBuf> {
    let features = features.iter().flat_map(|feature| ["--features", feature]);
    workspace_target(binary, ["--package", package, "--bin", binary].into_iter().chain(features), binary)
}

/// Builds an example of one of the workspace's packages like [`workspace_binary`], and returns its
/// path.
///
/// # Errors
/// If it does not compile.
pub fn workspace_example(package: &str, example: &str) -> Result<PathBuf> {
    workspace_target(example, ["--package", package, "--example", example], &format!("examples/{example}"))
}

fn workspace_target<'a>(name: &str, what: impl IntoIterator<Item = &'a str>, path: &str) -> Result<PathBuf> {
    once(name, || {
        let target = target();
        let mut cargo = nested_cargo();
        // Together with the harness, so that the dependencies are built with the same features and
        // need not be rebuilt.
        cargo.current_dir(workspace()).args(["build", "--package", "harness"]).args(what).arg("--target-dir");
        run(cargo.arg(&target)).with_context(|| format!("cannot build {name}"))?;
        Ok(target.join("debug").join(path))
    })
}

/// Builds one of the workspace's programs with the release profile, and returns its path.
///
/// # Errors
/// If it does not compile.
pub fn release_binary(package: &str, binary: &str, features: &[&str]) -> Result<PathBuf> {
    once(&format!("{binary} (release)"), || {
        let target = target();
        let mut cargo = nested_cargo();
        cargo.current_dir(workspace()).args(["build", "--release", "--package", package, "--bin", binary]);
        cargo.args(features.iter().flat_map(|feature| ["--features", feature]));
        run(cargo.arg("--target-dir").arg(&target)).with_context(|| format!("cannot build {binary}"))?;
        Ok(target.join("release").join(binary))
    })
}

/// Finds or builds a tool once per process. Tests that ask for the same tool at the same time wait
/// for the first one; other tools do not wait.
fn once(name: &str, find: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    type Tool = Arc<Mutex<Option<PathBuf>>>;
    static TOOLS: Mutex<BTreeMap<String, Tool>> = Mutex::new(BTreeMap::new());
    let tool = Arc::clone(TOOLS.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default());
    let mut found = tool.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*found {
        return Ok(path.clone());
    }
    let path = find()?;
    *found = Some(path.clone());
    Ok(path)
}

/// Returns a cargo command without what an outer cargo sets for the program that it runs. Build
/// scripts that watch these variables, such as ring's, would otherwise run again, and everything
/// that depends on them would be compiled again.
fn nested_cargo() -> Command {
    let mut command = Command::new(cargo());
    for (name, _) in env::vars_os() {
        let is_of_package =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_of_package {
            command.env_remove(name);
        }
    }
    command
}

fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn folder() -> Result<PathBuf> {
    let folder = target().join("tools");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Prints a progress line for the person who waits. Unlike the output of `println!`, a test does
/// not capture it.
pub fn say(line: &str) {
    _ = writeln!(io::stderr(), "  {line}");
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let program = command.get_program().display().to_string();
    match status.with_context(|| format!("cannot run {program}"))? {
        status if status.success() => Ok(()),
        status => bail!("{program} failed with {status}"),
    }
}

/// The standard output of a command that must succeed.
fn checked_output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} failed with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// The output of a command, or `None` if it does not run or fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the path of a program in the folders of `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Unpacks a Debian package. This installs nothing, starts no service, and works without root.
fn unpack(package: &str, target: &Path) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!("this is not a Debian system");
    }
    let download = tempfile::tempdir_in(folder()?)?;
    let mut apt = Command::new("apt-get");
    // Otherwise apt-get warns that its own user cannot write to this folder.
    apt.current_dir(&download).args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]);
    output(&mut apt).context("apt-get downloaded no package")?;
    let archive = fs::read_dir(&download)?.filter_map(Result::ok).map(|entry| entry.path()).next();
    run(Command::new("dpkg-deb").arg("-x").arg(archive.context("apt-get downloaded no package")?).arg(target))
}

/// Installs Debian packages, if this is a Debian system and the process runs as root.
///
/// # Errors
/// If it is not, or apt-get fails.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|uid| uid == "0");
    if on_path("apt-get").is_none() || !is_root {
        bail!("this takes apt-get and root; install {} yourself", packages.join(" "));
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
