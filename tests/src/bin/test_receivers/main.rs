//! `cargo test-receivers`: tests the receivers in `docs/receivers`, each against a real backend.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use harness::tools::{Receiver, say};

mod relay;
mod stream;
mod trial;

use stream::StreamTrial;
use trial::Trial;

/// Tests the receivers in docs/receivers, each against a real backend. Installs what they need to
/// target/receivers.
#[derive(Debug, Parser)]
#[command(name = "cargo test-receivers", bin_name = "cargo test-receivers")]
struct Arguments {
    /// Test only these receivers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Receiver>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for receiver in Receiver::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(receiver) {
            continue;
        }
        if let Err(error) = Box::pin(test(*receiver)).await {
            say(&format!("FAILED: {error:#}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn test(receiver: Receiver) -> Result<()> {
    let begin = Instant::now();
    receiver.install().with_context(|| receiver.to_string())?;
    let installed = begin.elapsed();
    let begin = Instant::now();
    let checked = match receiver {
        Receiver::Redis => Box::pin(StreamTrial::run()).await,
        _ => Box::pin(Trial::run(receiver)).await,
    };
    checked.with_context(|| receiver.to_string())?;
    let took = begin.elapsed();
    say(&format!("{receiver}: passed in {:.1} s, installed in {:.1} s", took.as_secs_f64(), installed.as_secs_f64()));
    Ok(())
}
