//! `cargo chaos`: injects random faults into a stack, and reports whether every promise was kept.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use harness::{
    chaos::{self, Chaos, Kind, Path},
    stack::group,
};

/// Sends events while random faults hit the backends, Redis, the Partner API, the application, the
/// filter and the network, and then checks that no accepted event was lost, reordered, or delivered
/// twice without a fault that explains it.
#[derive(Debug, Parser)]
#[command(name = "cargo chaos", bin_name = "cargo chaos")]
struct Arguments {
    /// How long to inject faults, in minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The seed of the random numbers; random by default.
    #[arg(long)]
    seed: Option<u64>,
    /// The approximate number of events per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Remove one protection of the backends, to show that the checks notice it.
    #[arg(long, value_parser = ["fencing", "atomicity", "recovery"])]
    without: Option<String>,
    /// The Redis servers to run.
    #[arg(long, default_value = "single", value_parser = ["single", "sentinel", "cluster"])]
    redis: String,
    /// The number of backends to run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    backends: u8,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut faults = Kind::USUAL.to_vec();
    if arguments.redis != "single" {
        println!(
            "The network to Redis gets no faults: sentinels and cluster servers tell backends their own addresses, past the proxies."
        );
        faults.retain(|kind| *kind != Kind::Network(Path::Redis));
    }
    let chaos = Chaos {
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        duration: Duration::from_secs_f64(arguments.minutes * 60.0),
        rate: arguments.rate,
        backends: arguments.backends.into(),
        redis: match arguments.redis.as_str() {
            "sentinel" => Some(group::Kind::Sentinel),
            "cluster" => Some(group::Kind::Cluster),
            _ => None,
        },
        mutation: arguments.without,
        faults,
        settling: Duration::from_secs(60),
    };
    println!("Injecting faults for {} minutes, seed {} ...", arguments.minutes, chaos.seed);
    let report = chaos::run(&chaos).await?;
    println!("{report}");
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
