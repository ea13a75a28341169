//! Records a store for the tests of the next format:
//! `cargo run --package harness --bin record-store > tests/stores/format-N.aof`.

#![expect(clippy::print_stdout, reason = "this program writes a recording")]

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use harness::{stored, tools};

/// Plays the scenario of the recorded stores with a backend, kills the backend, and prints the
/// append-only file of Redis.
#[derive(Debug, Parser)]
#[command(name = "record-store")]
struct Arguments {
    /// The backend's program; by default, the one of this version.
    #[arg(long)]
    backend: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let program = match Arguments::parse().backend {
        Some(program) => program,
        None => tools::workspace_binary("backend", "backend", &[])?,
    };
    print!("{}", stored::record(&program).await?);
    Ok(())
}
