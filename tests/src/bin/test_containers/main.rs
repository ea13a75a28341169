//! `cargo test-containers`: runs the Compose file in real containers, as README.md and
//! docs/OPERATIONS.md show it, while a sender that never retries posts events.
//!
//! - [`demo`] is the profile `demo`.
//! - [`walkthrough`] follows docs/OPERATIONS.md from a clone to a backend with a handler of its own.
//! - [`production`] performs every operation on a deployment under load.
//! - [`faults`] breaks the network between containers.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};
use harness::{
    containers::{Session, session::Left},
    tools::say,
};
use tokio::signal::unix::{SignalKind, signal};

mod demo;
mod faults;
mod production;
mod walkthrough;

/// Tests the containers. Uses the Docker engine that answers. If none does, and this is Debian and
/// the user is root, installs one and starts it for this run.
#[derive(Debug, Parser)]
#[command(name = "cargo test-containers", bin_name = "cargo test-containers")]
struct Arguments {
    /// Run only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Leave the containers, the images and the engine's data.
    #[arg(long)]
    keep: bool,
}

/// A part of the tests. Each has projects of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The profile `demo`.
    Demo,
    /// The section "Production, step by step".
    Walkthrough,
    /// Every operation of production under load.
    Production,
    /// Network faults between containers.
    Faults,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Box::pin(run(&arguments)).await {
        Ok(summary) => {
            say(&summary);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<String> {
    let left = if arguments.keep { Left::Everything } else { Left::Nothing };
    let mut session = Session::new(left)?;
    let result = tokio::select! {
        result = parts(&mut session, &arguments.only) => result,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    if result.is_err() {
        say(&session.logs().await);
    }
    let summary = session.steps.summary();
    let closed = session.close().await;
    result.and(closed).map(|()| format!("passed: {summary}"))
}

async fn parts(session: &mut Session, only: &[Part]) -> Result<()> {
    session.open().await?;
    for part in Part::value_variants().iter().filter(|part| only.is_empty() || only.contains(part)) {
        match part {
            Part::Demo => Box::pin(demo::run(session)).await?,
            Part::Walkthrough => Box::pin(walkthrough::run(session)).await?,
            Part::Production => Box::pin(production::run(session)).await?,
            Part::Faults => Box::pin(faults::run(session)).await?,
        }
        session.remove_projects().await?;
    }
    if only.is_empty() {
        session.performed.covers(&["README.md", "docs/OPERATIONS.md"])?;
    }
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
