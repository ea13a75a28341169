//! The receivers in `docs/receivers`. What they need is installed to `target/receivers`.

use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{nested_cargo, once, run, say, target, workspace};

/// A receiver to copy, by its language; or the one that reads a stream in Redis, in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Receiver {
    Python,
    Node,
    Rust,
    Redis,
}

impl Receiver {
    /// Installs what the receiver needs, and returns the command that runs it.
    ///
    /// # Errors
    /// If a tool is missing, or a package cannot be installed.
    pub fn install(self) -> Result<Command> {
        let source = workspace().join("docs/receivers").join(self.to_string());
        let folder = target().join("receivers").join(self.to_string());
        fs::create_dir_all(&folder)?;
        match self {
            Self::Python => python(&source, &folder, "receiver.py"),
            Self::Redis => python(&source, &folder, "consumer.py"),
            Self::Node => node(&source, &folder),
            Self::Rust => rust(&source, &folder),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
            Self::Redis => "redis",
        })
    }
}

fn python(source: &Path, folder: &Path, script: &str) -> Result<Command> {
    let program = folder.join("bin/python");
    once_per_version(source, folder, "requirements.txt", || {
        say(&format!("installing {}/requirements.txt from PyPI to {}", source.display(), folder.display()));
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))
            .context("Python with venv is missing (Debian: python3-venv)")?;
        let mut pip = Command::new(&program);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        run(pip.arg(source.join("requirements.txt")))
    })?;
    let mut python = Command::new(program);
    python.arg(source.join(script));
    Ok(python)
}

fn node(source: &Path, folder: &Path) -> Result<Command> {
    once_per_version(source, folder, "package.json", || {
        say("node: installing docs/receivers/node/package.json from npm to target/receivers/node");
        fs::copy(source.join("package.json"), folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]);
        run(&mut npm).context("Node.js with npm is missing")
    })?;
    // Node looks for packages beside the program.
    let program = folder.join("receiver.js");
    fs::copy(source.join("receiver.js"), &program)?;
    let mut node = Command::new("node");
    node.arg(program);
    Ok(node)
}

fn rust(source: &Path, folder: &Path) -> Result<Command> {
    let program = once("receiver in Rust", || {
        say("rust: building docs/receivers/rust with its own Cargo.lock in target/receivers/rust");
        let mut cargo = nested_cargo();
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(source.join("Cargo.toml"));
        run(cargo.arg("--target-dir").arg(folder))?;
        Ok(folder.join("debug/receiver"))
    })?;
    Ok(Command::new(program))
}

/// Installs packages, unless those that the file `list` names are installed already.
fn once_per_version(source: &Path, folder: &Path, list: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read(source.join(list))?;
    let installed = folder.join("installed");
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    Ok(fs::write(installed, wanted)?)
}
