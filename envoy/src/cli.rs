//! The command line of `guardctl`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use envelope::Policy;
use serde_json::Value;

use crate::{bootstrap::Bootstrap, edge::Edge, policy_file, render::Rendering};

mod build;
mod report;
mod run;
mod target;
mod verify;

use build::{BuildArguments, RehearsalArguments};
use run::Run;
use target::{Patience, Target};
use verify::Verify;

/// Guards what Envoy serves: publishes builds of the filter, verifies them, and rolls them back.
///
/// A build is one version of the filter: the WebAssembly module with its settings.
///
/// Exit codes: 0 if the command succeeded, which for `publish` and `rollback` means that Envoy
/// serves the build (with --stage: will serve it when it starts); 1 if it failed, and Envoy serves
/// what it served before; 2 if the command line is wrong.
#[derive(Parser)]
#[command(name = "guardctl", version = envelope::version::text())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish a build: swap it in, verify that it serves and that the backends know its proof, and
    /// roll back if it fails.
    Publish {
        #[command(flatten)]
        build: BuildArguments,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        patience: Patience,
    },
    /// Write a build as files for Kustomize, which make a Secret for Envoy's containers in
    /// Kubernetes.
    ///
    /// Checks and rehearses the build as `publish` does, but asks no Envoy and no backend. When the
    /// files are applied, each Envoy loads the build as soon as its kubelet has updated the Secret.
    Render {
        #[command(flatten)]
        build: BuildArguments,
        /// The directory to write to: the module, the resource, and kustomization.yaml. Only you
        /// can read the files, because they contain the token and the proof.
        #[arg(long)]
        out: PathBuf,
        /// The directory in which Envoy's containers mount the Secret.
        #[arg(long, default_value = "/var/lib/edge/ecds")]
        mount: PathBuf,
        #[command(flatten)]
        rehearsal: RehearsalArguments,
    },
    /// Roll back to the previous build, or to a kept build by its name.
    Rollback {
        /// The build's name, as `status` lists it.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        patience: Patience,
    },
    /// Send test requests to a running edge, and report what is misconfigured and how to correct
    /// it.
    ///
    /// Works with any Envoy that runs the filter. Every request is one that the filter must reject,
    /// so nothing is stored unless --store-test-event is given. Exits with 0 only if every answer
    /// is right.
    Verify(Verify),
    /// Run Envoy, and drain it before it stops.
    ///
    /// On SIGTERM, SIGINT, SIGQUIT or SIGHUP, Envoy reports that it is not ready, stops accepting
    /// connections after --notice-seconds, and stops when no request is in flight. A second signal
    /// other than SIGHUP stops it at once. If SIGHUP was ignored when guardctl started, as `nohup`
    /// does, it stays ignored. Exits with Envoy's status.
    Run(Run),
    /// Check that Envoy is ready and that its filter answers. For container health checks.
    Ready {
        /// The URL of Envoy's operators' listener.
        #[arg(long, default_value = "http://127.0.0.1:9902", env = "EDGE_URL")]
        edge: String,
    },
    /// Print a new random path token, and the path to register with TruEnroll.
    Token {
        /// The policy that sets the webhook's `path`. Default: the path of the shipped policy.toml.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
    /// List the kept builds, and the one that Envoy serves. Fails if Envoy does not say which one
    /// it serves.
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Print Envoy's bootstrap, with values replaced and options enabled.
    Bootstrap {
        /// A value to replace, named by a comment `# set: NAME` in the bootstrap.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// An option to enable. The bootstrap lists its options in its first lines.
        #[arg(long, value_name = "OPTION")]
        enable: Vec<String>,
    },
}

/// The exit code for a command line that is wrong, the same that clap uses.
const WRONG_COMMAND_LINE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(wrong) => {
                _ = wrong.print();
                ExitCode::from(WRONG_COMMAND_LINE)
            }
            None => {
                tell(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(run) => run.run(),
        command => tool(command).map(|()| ExitCode::SUCCESS),
    }
}

fn tool(command: Command) -> Result<()> {
    let mut out = io::stdout();
    match command {
        Command::Publish { build, target, patience } => {
            let (publication, outcome) = patience.publisher(&target)?.publish(&build.read()?)?;
            report::publication(&mut out, &publication, outcome, patience.backends())
        }
        Command::Render { build, out: folder, mount, rehearsal } => {
            let rendering = Rendering { out: folder, mount, rehearse_with: rehearsal.program()? };
            let (name, response) = rendering.render(&build.read()?)?;
            report::rendering(&mut out, &name, &response, &rendering.out)
        }
        Command::Rollback { to, target, patience } => {
            let (publication, outcome) = patience.publisher(&target)?.rollback(to.as_deref())?;
            report::publication(&mut out, &publication, outcome, patience.backends())
        }
        Command::Token { policy } => {
            let policy = policy_file::read(policy.as_deref(), None)?;
            let path = policy.get("path").and_then(Value::as_str).map_or_else(|| Policy::default().path, str::to_owned);
            let token = policy_file::new_token()?;
            Ok(writeln!(out, "token: {token}\npath to register: {path}/{token}")?)
        }
        Command::Verify(verify) => verify.run(&mut out),
        // `run` handles it.
        Command::Run(_) => Ok(()),
        Command::Ready { edge } => Ok(Edge { url: edge }.ready()?),
        Command::Status { target } => report::status(&mut out, &target),
        Command::Bootstrap { settings, enable } => {
            Ok(out.write_all(rendered(Bootstrap::shipped(), &settings, &enable)?.as_bytes())?)
        }
    }
}

/// Returns the text of a bootstrap with options enabled and values replaced. An option may be named
/// more than once.
fn rendered(mut bootstrap: Bootstrap, settings: &[String], enable: &[String]) -> Result<String> {
    for option in enable.iter().collect::<BTreeSet<_>>() {
        bootstrap = bootstrap.enable(option)?;
    }
    for setting in settings {
        let (name, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not NAME=VALUE"))?;
        bootstrap = bootstrap.set(name, value)?;
    }
    Ok(bootstrap.render()?)
}

/// Writes a line for the operator to standard error.
fn tell(line: &str) {
    _ = writeln!(io::stderr(), "guardctl: {line}");
}
