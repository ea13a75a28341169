//! `cargo chaos`: breaks everything for a while, and says whether every promise was kept.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use harness::{
    chaos::{self, Chaos, Kind, Path},
    stack::group,
};

/// Sends events while backends, Redis, the Partner API, the application, the filter and the network are broken, and checks what came of it.
#[derive(Debug, Parser)]
#[command(name = "cargo chaos", bin_name = "cargo chaos")]
struct Arguments {
    /// How many minutes things break.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Where chance begins; one from the clock where not given.
    #[arg(long)]
    seed: Option<u64>,
    /// About how many events to send each second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Takes a protection out, to see that this is noticed: fencing, atomicity or recovery.
    #[arg(long, value_parser = ["fencing", "atomicity", "recovery"])]
    without: Option<String>,
    /// Which Redis to run: single, sentinel or cluster.
    #[arg(long, default_value = "single", value_parser = ["single", "sentinel", "cluster"])]
    redis: String,
    /// How many backends to run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    backends: u8,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut faults = Kind::USUAL.to_vec();
    if arguments.redis != "single" {
        println!(
            "several Redis servers: the network to them stays whole, since they tell backends their own addresses"
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
    println!("{} minutes with seed {}", arguments.minutes, chaos.seed);
    let report = chaos::run(&chaos).await?;
    println!("{report}");
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
