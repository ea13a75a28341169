//! `cargo bench-operations`: measures how planned operations affect senders.
//!
//! During each operation a sender posts events at a constant rate and never retries. The table
//! shows how many events were not accepted, which must be none, and the longest time that an event
//! waited for its answer.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Parser;
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    balancer::Balancer,
    dns::{DnsServer, Reply},
    simulator::{
        Simulator,
        sender::Sender,
        steady::{Report, Steady},
    },
    stack::DrainedEnvoy,
    tools::say,
};
use tokio::time::sleep;

mod operations;

use operations::Operation;

/// Measures how long events wait for their answers during planned operations.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-operations", bin_name = "cargo bench-operations")]
struct Arguments {
    /// The number of events per second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Run only the operations whose names contain this text.
    #[arg(long, default_value = "")]
    only: String,
    /// The file that the table is written to.
    #[arg(long, default_value = "docs/bench-operations.md")]
    out: PathBuf,
}

/// How long to send events before and after each operation.
const AROUND: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut table = String::new();
    writeln!(table, "# How long events wait during planned operations\n")?;
    writeln!(
        table,
        "Measured by `cargo bench-operations --rate {}` with unoptimized builds. During each operation a sender posts {} \
         events per second\nand never retries. An event counts as not accepted if it is answered with anything but 202.\n",
        arguments.rate, arguments.rate
    )?;
    writeln!(table, "| operation | events | not accepted | longest wait |")?;
    writeln!(table, "|---|---|---|---|")?;
    let mut undeserved = 0;
    for operation in Operation::ALL {
        if !operation.name().contains(&arguments.only) {
            continue;
        }
        say(operation.name());
        let report = measure(operation, arguments.rate).await?;
        undeserved += report.undeserved.len();
        for (key, answer) in &report.undeserved {
            println!("{key}: {answer:?}");
        }
        let sent = report.sent;
        let longest = report.longest.as_secs_f64();
        writeln!(table, "| {} | {sent} | {} | {longest:.2} s |", operation.name(), report.undeserved.len())?;
    }
    println!("{table}");
    fs::write(&arguments.out, table)?;
    Ok(if undeserved == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(operation: Operation, rate: u32) -> Result<Report> {
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    let dns = DnsServer::start(Reply::Addresses(vec![Ipv4Addr::LOCALHOST])).await?;
    let mut stack = operation.stack(&simulator, &dns)?;
    let mut envoys = operation.envoys(&stack)?;
    let balancer = Balancer::start(envoys.iter().map(DrainedEnvoy::target).collect()).await?;
    let webhook = if envoys.is_empty() { stack.webhook() } else { format!("{}/webhooks/truenroll", balancer.url()) };
    let sender = Arc::new(Sender::new(webhook));
    // The load balancer needs time to find out which Envoys are ready.
    sleep(AROUND).await;
    let steady = Steady::start(&simulator.world, &sender, "steady", rate);
    sleep(AROUND).await;
    operation.perform(&mut stack, &dns, &mut envoys).await?;
    sleep(AROUND).await;
    let report = steady.stop().await?;
    stack.stop()?;
    Ok(report)
}
