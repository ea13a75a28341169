//! `cargo test-monitoring`: a real Prometheus watches a real stack with the shipped alerts. Each fault
//! must make its alerts fire, and each alert must resolve once the fault has ended.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use harness::tools::say;

mod certificate;
mod faults;
mod prometheus;
mod trial;

use trial::Trial;

/// Tests the alerts in deploy/monitoring with a real Prometheus and real faults. A minute of the
/// rules lasts two seconds.
#[derive(Debug, Parser)]
#[command(name = "cargo test-monitoring", bin_name = "cargo test-monitoring")]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    let begin = Instant::now();
    let trial = async { Trial::start().await?.run().await };
    match Box::pin(trial).await {
        Ok(()) => {
            say(&format!(
                "each fault made its alerts fire, and they resolved, in {:.0} s",
                begin.elapsed().as_secs_f64()
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("FAILED after {:.0} s: {error:#}", begin.elapsed().as_secs_f64()));
            ExitCode::FAILURE
        }
    }
}
