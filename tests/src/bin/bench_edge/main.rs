//! `cargo bench-edge`: measures what validating events in Envoy costs, for several implementations
//! in one run.
//!
//! Each round gives every implementation the same load, in a rotating order. The result is Envoy's
//! CPU time per request, and its ratio to Envoy without a filter in the same round, which varies
//! less than absolute times on a busy machine.

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
mod native;
mod variants;
mod verdicts;

use variants::{THIS, Variant};

/// Compares what validating events in Envoy costs, for several implementations.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-edge", bin_name = "cargo bench-edge")]
struct Arguments {
    /// The number of rounds.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// The length of each measurement in seconds.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Measure only Envoy without a filter, this filter, and the implementations whose names contain
    /// one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The file that the tables are written to.
    #[arg(long, default_value = "docs/bench-edge.md")]
    out: PathBuf,
    /// Internal: run the ext_proc server, in a process of its own so that its CPU time can be
    /// measured.
    #[arg(long, hide = true)]
    serve_ext_proc: Option<u16>,
}

/// The measurement of one implementation in one round.
struct Sample {
    /// CPU time per request: of Envoy, and for ext_proc also of its server.
    cpu: Duration,
    slice: Slice,
}

const CONNECTIONS: usize = 16;
const ACCEPTED: &str = r#"{"eventName":"case.extraction.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":"applicant-9876","occurredAt":"2025-06-22T10:30:00Z"}}"#;
const REJECTED: &str = r#"{"eventName":"case.extraction.complete","payload":{"caseId":"6850abc123def456ghi789","externalId":"applicant-9876","occurredAt":"2025-06-22T10:30:00Z"}}"#;

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
    writeln!(table, "# What validating events costs in Envoy\n")?;
    writeln!(
        table,
        "Measured by `cargo bench-edge --rounds {} --seconds {}` with one Envoy worker per implementation, 16 HTTP/1.1 \
         connections\nand an event of {} bytes. All values are medians over the rounds. Ratios compare CPU times of the \
         same round; their quartiles\nare in parentheses. The ratio of this filter to another implementation \
         depends less on the machine than the ratio\nto Envoy without a filter. The quiet ratio compares the 10th \
         percentiles of the CPU times, which other programs on the\nmachine disturb least. The CPU time of ext_proc \
         includes its server.\n",
        arguments.rounds,
        arguments.seconds,
        ACCEPTED.len()
    )?;
    let memory = || variants.iter().map(|variant| resident(variant.envoy.pid())).collect::<Result<Vec<_>>>();
    let memory_before = memory()?;
    let mut requests = vec![0; variants.len()];
    for (title, body, status) in
        [("Accepted", ACCEPTED, 202), ("Rejected, because the event is unknown", REJECTED, 422)]
    {
        let samples = measure(&arguments, &variants, &server, title, body, status).await?;
        writeln!(table, "## {title}\n\n{}", render(&variants, &samples)?)?;
        for (total, own) in requests.iter_mut().zip(&samples) {
            *total += own.iter().map(|sample| sample.slice.requests).sum::<u64>();
        }
    }
    writeln!(table, "{}", verdicts::judge(&variants).await?)?;
    writeln!(table, "## Memory of Envoy\n\n| implementation | requests | before | after |\n|---|---|---|---|")?;
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

/// Returns the samples of each implementation, round by round.
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
    // The first round warms up and is discarded.
    for round in 0..=arguments.rounds {
        say(&format!("{title}: round {round} of {}", arguments.rounds));
        for place in 0..variants.len() {
            let number = (place + round) % variants.len();
            let variant = &variants[number];
            let expected = if status == 202 { 202 } else { variant.rejects_with.unwrap_or(202) };
            let server = (variant.name == "ext_proc").then_some(server);
            let cpu = || {
                let of_server = server.map_or(Ok(Duration::ZERO), Process::cpu_time)?;
                Ok::<_, anyhow::Error>(variant.envoy.cpu_time()? + of_server)
            };
            let before = cpu()?;
            let load =
                Load { ports: vec![variant.port], connections: CONNECTIONS, rate: None, status: expected, duration };
            let counter = Arc::default();
            let bytes = request.clone().into_bytes();
            let slice = load.run(&counter, move |_| bytes.clone()).await?;
            let cpu = (cpu()? - before).div_f64(slice.requests as f64);
            if round > 0 {
                samples[number].push(Sample { cpu, slice });
            }
        }
    }
    Ok(samples)
}

/// The resident memory of a process, in KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel does not report the memory")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn render(variants: &[Variant], samples: &[Vec<Sample>]) -> Result<String> {
    let mut table = String::new();
    writeln!(
        table,
        "| implementation | CPU time per request | this filter's ratio to it | quiet | its ratio to Envoy without a filter \
         | quiet | requests/s | p50 | p99 |"
    )?;
    writeln!(table, "|---|---|---|---|---|---|---|---|---|")?;
    let this = variants.iter().position(|variant| variant.name == THIS).context("this filter was not measured")?;
    for (variant, own) in variants.iter().zip(samples) {
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        // Other programs only add CPU time, so the rounds with the least CPU time compare best.
        let quiet = |samples: &[Sample]| quantile(samples.iter().map(|sample| micros(sample.cpu)).collect(), 0.1);
        let cpu = median(own.iter().map(|sample| micros(sample.cpu)).collect());
        let ratio = |upper: &[Sample], lower: &[Sample]| {
            let ratios = upper.iter().zip(lower).map(|(upper, lower)| micros(upper.cpu) / micros(lower.cpu));
            let ratios: Vec<_> = ratios.collect();
            let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(ratios.clone(), share));
            format!("{middle:.3} ({low:.3} to {high:.3}) | {:.3}", quiet(upper) / quiet(lower))
        };
        let rate = median(own.iter().map(|s| s.slice.requests as f64 / s.slice.elapsed.as_secs_f64()).collect());
        let percentile = |share: f64| {
            let at = |slice: &Slice| slice.latencies[((slice.latencies.len() - 1) as f64 * share) as usize];
            median(own.iter().map(|sample| micros(at(&sample.slice))).collect())
        };
        writeln!(
            table,
            "| {} | {cpu:.1} µs | {} | {} | {rate:.0} | {:.0} µs | {:.0} µs |",
            variant.name,
            ratio(&samples[this], own),
            ratio(own, &samples[0]),
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
