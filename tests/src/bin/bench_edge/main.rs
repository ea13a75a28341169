//! `cargo bench-edge`: what the edge's job costs in Envoy, done in several ways, side by side in one run.
//!
//! Each round gives every way the same load for a while, in an order that changes. What counts is Envoy's CPU time for each
//! request, and its ratio to Envoy alone in the same round: steadier than seconds on a machine that does other things.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use harness::{
    load::{self, Load, Slice},
    process::Process,
    tools::say,
};
use tokio::net::TcpListener;

mod ext_proc;
mod variants;

use variants::Variant;

/// Compares what the edge's job costs in Envoy, done in several ways.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-edge", bin_name = "cargo bench-edge")]
struct Arguments {
    /// How often every way is measured.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// How many seconds each time.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Measure Envoy alone and these ways only, by a part of their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the table is written to.
    #[arg(long, default_value = "docs/bench-edge.md")]
    out: PathBuf,
    /// Internal: be the server that ext_proc asks, in a process of its own, so that its CPU time can be told apart.
    #[arg(long, hide = true)]
    serve_ext_proc: Option<u16>,
}

/// What one way measured in one round.
struct Sample {
    /// CPU time for each request: Envoy's, and for ext_proc its server's too.
    cpu: Duration,
    slice: Slice,
}

const CONNECTIONS: usize = 16;
const ACCEPTED: &str = r#"{"eventName":"case.extraction.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":"applicant-9876","occurredAt":"2025-06-22T10:30:00Z"}}"#;
const REFUSED: &str = r#"{"eventName":"case.extraction.complete","payload":{"caseId":"6850abc123def456ghi789","externalId":"applicant-9876","occurredAt":"2025-06-22T10:30:00Z"}}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(port) = arguments.serve_ext_proc {
        ext_proc::serve(TcpListener::bind(("127.0.0.1", port)).await?).await;
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let upstream = TcpListener::bind("127.0.0.1:0").await?;
    let upstream_port = upstream.local_addr()?.port();
    tokio::spawn(load::serve(upstream));
    let ext_proc_port = harness::process::free_port()?;
    let mut itself = std::process::Command::new(std::env::current_exe()?);
    itself.args(["--serve-ext-proc", &ext_proc_port.to_string()]);
    let server = harness::process::Process::start("ext_proc", &mut itself, &folder.path().join("ext_proc.log"))?;
    let variants = variants::start_all(folder.path(), upstream_port, ext_proc_port, &arguments.only)?;

    let mut table = String::new();
    writeln!(table, "# What the edge costs in Envoy\n")?;
    writeln!(
        table,
        "Measured by `cargo bench-edge --rounds {} --seconds {}`: one Envoy worker each, 16 HTTP/1.1 connections, an event \
         of {} bytes.\nMedians over the rounds; the ratio is to Envoy alone in the same round, with its quartiles. The \
         quiet ratio compares the\ntenth of the rounds in which each took least. The CPU time of ext_proc holds its \
         server's.\n",
        arguments.rounds,
        arguments.seconds,
        ACCEPTED.len()
    )?;
    let memory = || variants.iter().map(|variant| resident(variant.envoy.pid())).collect::<Result<Vec<_>>>();
    let (memory_before, mut requests) = (memory()?, vec![0; variants.len()]);
    for (title, body, status) in [("Accepted", ACCEPTED, 202), ("Rejected (422 `unknown_event`)", REFUSED, 422)] {
        let samples = measure(&arguments, &variants, &server, title, body, status).await?;
        writeln!(table, "## {title}\n\n{}", render(&variants, &samples)?)?;
        for (total, own) in requests.iter_mut().zip(&samples) {
            *total += own.iter().map(|sample| sample.slice.requests).sum::<u64>();
        }
    }
    writeln!(table, "## Memory\n\n| way | requests | Envoy before | Envoy after |\n|---|---|---|---|")?;
    for (number, (before, after)) in memory_before.into_iter().zip(memory()?).enumerate() {
        let name = variants[number].name;
        writeln!(table, "| {name} | {} | {} MiB | {} MiB |", requests[number], before >> 10, after >> 10)?;
    }
    println!("{table}");
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&arguments.out, table).with_context(|| format!("cannot write {}", arguments.out.display()))
}

/// The samples of each variant, round by round.
async fn measure(
    arguments: &Arguments,
    variants: &[Variant],
    server: &Process,
    title: &str,
    body: &str,
    status: u16,
) -> Result<Vec<Vec<Sample>>> {
    let request = format!(
        "POST /webhooks/truenroll HTTP/1.1\r\nhost: edge\r\nuser-agent: bench\r\naccept: */*\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut samples: Vec<Vec<Sample>> = variants.iter().map(|_| Vec::new()).collect();
    let duration = Duration::from_secs_f64(arguments.seconds);
    // The first round warms up and is thrown away.
    for round in 0..=arguments.rounds {
        say(&format!("{title}: round {round} of {}", arguments.rounds));
        for place in 0..variants.len() {
            let number = (place + round) % variants.len();
            let variant = &variants[number];
            let expected = if variant.refuses { status } else { 202 };
            let server = (variant.name == "ext_proc").then_some(server);
            let cpu = || {
                let of_server = server.map_or(Ok(Duration::ZERO), Process::cpu_time)?;
                Ok::<_, anyhow::Error>(variant.envoy.cpu_time()? + of_server)
            };
            let before = cpu()?;
            let load =
                Load { ports: vec![variant.port], connections: CONNECTIONS, rate: None, status: expected, duration };
            let (counter, bytes) = (Arc::default(), request.clone().into_bytes());
            let slice = load.run(&counter, move |_| bytes.clone()).await?;
            let cpu = (cpu()? - before).div_f64(slice.requests as f64);
            if round > 0 {
                samples[number].push(Sample { cpu, slice });
            }
        }
    }
    Ok(samples)
}

/// The memory that a process holds, in KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel tells no memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn render(variants: &[Variant], samples: &[Vec<Sample>]) -> Result<String> {
    let mut table = String::new();
    writeln!(table, "| way | CPU for each request | ratio to Envoy alone | quiet ratio | requests/s | p50 | p99 |")?;
    writeln!(table, "|---|---|---|---|---|---|---|")?;
    for (variant, own) in variants.iter().zip(samples) {
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        // Whatever else the machine does only adds: the tenth of the rounds that it disturbed least compares best.
        let quiet = |samples: &[Sample]| quantile(samples.iter().map(|sample| micros(sample.cpu)).collect(), 0.1);
        let cpu = median(own.iter().map(|sample| micros(sample.cpu)).collect());
        let ratios: Vec<_> =
            own.iter().zip(&samples[0]).map(|(own, alone)| micros(own.cpu) / micros(alone.cpu)).collect();
        let rate = median(own.iter().map(|s| s.slice.requests as f64 / s.slice.elapsed.as_secs_f64()).collect());
        let percentile = |share: f64| {
            let at = |slice: &Slice| slice.latencies[((slice.latencies.len() - 1) as f64 * share) as usize];
            median(own.iter().map(|sample| micros(at(&sample.slice))).collect())
        };
        writeln!(
            table,
            "| {} | {cpu:.1} µs | {:.3} ({:.3} to {:.3}) | {:.3} | {rate:.0} | {:.0} µs | {:.0} µs |",
            variant.name,
            quantile(ratios.clone(), 0.5),
            quantile(ratios.clone(), 0.25),
            quantile(ratios, 0.75),
            quiet(own) / quiet(&samples[0]),
            percentile(0.5),
            percentile(0.99)
        )?;
    }
    Ok(table)
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
