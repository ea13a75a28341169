//! Builds WebAssembly modules, and runs the filter's tests as WebAssembly under Node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt_install, cargo, folder, on_path, once, output, run, say, target, workspace};

const TRIPLE: &str = "wasm32-unknown-unknown";
/// Debian's compiler, for machines on which rustup's target cannot be installed.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std";

/// A way to compile to WebAssembly.
enum Compiler {
    /// rustup's compiler, with the target installed.
    Rustup,
    /// Debian's compiler, which also builds the standard library from source.
    Debian { linker: PathBuf },
}

/// Builds the filter and returns the module's path.
///
/// # Errors
/// If there is no compiler for WebAssembly, or the filter does not compile.
pub fn wasm_filter() -> Result<PathBuf> {
    wasm_module("filter", &["--features", "host"])
}

/// Builds a package of the workspace as a WebAssembly module and returns the module's path.
///
/// # Errors
/// If there is no compiler for WebAssembly, or the package does not compile.
pub fn wasm_module(package: &str, features: &[&str]) -> Result<PathBuf> {
    let file = format!("{package}.wasm");
    once(&file, || {
        let (mut cargo, target) = Compiler::find()?.cargo("build")?;
        let module = target.join(TRIPLE).join("wasm").join(&file);
        if !module.is_file() {
            say(&format!("building {package} as WebAssembly; the first build takes about a minute"));
        }
        run(cargo.args(["--package", package, "--profile", "wasm"]).args(features))
            .with_context(|| format!("{package} does not compile as WebAssembly"))?;
        Ok(module)
    })
}

/// Runs the filter's tests as WebAssembly under Node, and returns their output.
///
/// # Errors
/// If a test fails, or a tool is missing.
pub fn run_filter_tests() -> Result<String> {
    // Building the module first installs the compiler if it is missing.
    wasm_filter()?;
    if on_path("node").is_none() {
        say("node is not on the PATH; installing it with apt-get");
        apt_install(&["nodejs"]).context("Node.js is missing: add node to the PATH")?;
    }
    let runner = once("wasm-bindgen-test-runner", test_runner)?;
    let (mut cargo, _) = Compiler::find()?.cargo("test")?;
    say("building the filter's tests as WebAssembly; the first build takes about a minute");
    cargo.args(["--package", "filter", "--test", "request"]);
    let output = cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("the filter's tests failed under Node:\n{printed}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(printed)
}

impl Compiler {
    fn find() -> Result<Self> {
        let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TRIPLE]));
        if libraries.is_some_and(|libraries| Path::new(&libraries).is_dir()) {
            return Ok(Self::Rustup);
        }
        if !Self::debian_is_installed() {
            say(&format!("the target {TRIPLE} is not installed; installing it with rustup"));
            let added = output(Command::new("rustup").args(["target", "add", TRIPLE]));
            if added.is_some() {
                return Ok(Self::Rustup);
            }
            say(&format!(
                "rustup cannot install {TRIPLE}; installing Debian's rustc-web and the standard library's source with apt-get"
            ));
            apt_install(&["rustc-web", "rust-web-src"])
                .with_context(|| format!("the target {TRIPLE} is missing: run `rustup target add {TRIPLE}`"))?;
        }
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).context("rustc is missing")?;
        let host =
            output(Command::new("rustc").args(["--print", "host-tuple"])).context("rustc does not name its host")?;
        let linker = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
        if !linker.is_file() {
            bail!("the toolchain does not contain rust-lld at {}", linker.display());
        }
        Ok(Self::Debian { linker })
    }

    fn debian_is_installed() -> bool {
        Path::new(DEBIAN_RUSTC).is_file() && Path::new(DEBIAN_SOURCE).is_dir()
    }

    /// Returns a cargo command and its target directory. The directory is a separate one: two
    /// compilers that share a directory rebuild each other's work, and cargo locks the directory of
    /// a running `cargo test`.
    fn cargo(&self, subcommand: &str) -> Result<(Command, PathBuf)> {
        let target = target().join("wasm");
        fs::create_dir_all(&target)?;
        let mut command = Command::new(cargo());
        command.current_dir(workspace()).arg(subcommand).args(["--target", TRIPLE, "--target-dir"]).arg(&target);
        if let Self::Debian { linker } = self {
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                .env_remove("RUSTUP_TOOLCHAIN");
        }
        Ok((command, target))
    }
}

/// Returns the path of wasm-bindgen's test runner, in the version that the tests are compiled
/// against.
fn test_runner() -> Result<PathBuf> {
    let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
    let locked = lock.split("name = \"wasm-bindgen\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    let version = locked.context("Cargo.lock does not contain wasm-bindgen")?;
    let name = "wasm-bindgen-test-runner";
    let is_right =
        |path: &PathBuf| output(Command::new(path).arg("--version")).is_some_and(|printed| printed.ends_with(version));
    let root = folder()?;
    let own = root.join("bin").join(name);
    if let Some(found) = on_path(name).into_iter().chain([own.clone()]).find(is_right) {
        return Ok(found);
    }
    say(&format!("{name} {version} is not on the PATH; installing it with cargo, which takes about a minute"));
    let install = |extra: &[&str]| {
        let mut cargo = Command::new(cargo());
        cargo.args([
            "install",
            "--quiet",
            "--force",
            "--debug",
            "wasm-bindgen-cli",
            "--bin",
            name,
            "--version",
            version,
        ]);
        cargo.args(extra).arg("--root").arg(&root).arg("--target-dir").arg(root.join("build"));
        // Cargo set this variable for the build of the tests, not for this one.
        run(cargo.current_dir(&root).env_remove("RUSTC"))
    };
    // A registry mirror may lack a version that the published lock file names.
    install(&["--locked"]).or_else(|_| install(&[]))?;
    fs::remove_dir_all(root.join("build"))?;
    Ok(own)
}
