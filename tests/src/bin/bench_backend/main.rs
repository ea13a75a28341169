//! `cargo bench-backend`: what it costs to store an event before saying yes, beside the ceilings measured in the same run.
//!
//! For each way in which Redis can keep what it is given, in rounds that take turns: axum that answers 202 and stores
//! nothing; the very script that stores an event, called by as many clients without HTTP; the naive design; the backend; and
//! the backend again while it works off what it has stored. Then the answer's time is measured at half the rate. [`growth`]
//! measures more backends, more partitions, and more events.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use harness::{
    load::{Load, Slice},
    tools::say,
};

mod growth;
mod peers;
mod programs;
mod script;

use peers::Peer;
use programs::{Keeping, Programs, Setup};

/// Measures what it costs to store an event before saying yes.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-backend", bin_name = "cargo bench-backend")]
struct Arguments {
    /// How often each is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How many seconds each time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// On how many connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How many events are stored and worked off for each number of backends and partitions.
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// How many events the longest backlog has; 0 leaves out more backends, more partitions and more events.
    #[arg(long, default_value_t = 1_000_000)]
    longest: u64,
    /// Where the table is written to.
    #[arg(long, default_value = "docs/bench-backend.md")]
    out: PathBuf,
    /// Internal: be one of the peers, on this port, with that Partner API and that Redis.
    #[arg(long, hide = true)]
    serve: Option<Peer>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    #[arg(long, hide = true, default_value = "")]
    api: String,
    #[arg(long, hide = true, default_value = "")]
    redis: String,
}

/// One measurement.
struct Sample {
    slice: Slice,
    /// CPU time for each event: of whatever answers, and of Redis.
    server: Duration,
    redis: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(peer) = arguments.serve {
        return peer.serve(arguments.port, &arguments.api, &arguments.redis).await;
    }
    let mut text = format!(
        "# What it costs to store an event before saying yes\n\nMeasured by `cargo bench-backend --rounds {} --seconds {} \
         --connections {} --backlog {} --longest {}`, load and servers on the same {} cores:\nmedians over the rounds. The CPU time is \
         that of the program that answers and of Redis; the script's clients are the load\nthemselves. \
         Times are those of the answer. The naive design sets a key if it is new (SETNX), fetches the result from a Partner API \
         that answers\nat once, and then answers: it has done more than the others by then, and loses what a crash \
         interrupts.\n\n",
        arguments.rounds,
        arguments.seconds,
        arguments.connections,
        arguments.backlog,
        arguments.longest,
        std::thread::available_parallelism()?
    );
    for keeping in Keeping::ALL {
        measure(&arguments, keeping, &mut text).await?;
    }
    if arguments.longest > 0 {
        growth::backends_and_partitions(&arguments, &mut text).await?;
        growth::backlog(&arguments, &mut text).await?;
    }
    println!("{text}");
    fs::write(&arguments.out, text).with_context(|| format!("cannot write {}", arguments.out.display()))
}

async fn measure(arguments: &Arguments, keeping: Keeping, text: &mut String) -> Result<()> {
    let programs = Programs::start(Setup { keeping, backends: 1, partitions: 16 }).await?;
    let counter = Arc::new(AtomicU64::new(0));
    let load = |ports: Vec<u16>, rate| Load {
        ports,
        connections: arguments.connections,
        rate,
        status: 202,
        duration: Duration::from_secs_f64(arguments.seconds),
    };
    let ways = ["axum, storing nothing", "the script alone", "the naive design", "the backend"];
    let (mut samples, mut drains) = (<[Vec<Sample>; 4]>::default(), Vec::new());
    // The first round warms up and is thrown away.
    for round in 0..=arguments.rounds {
        say(&format!("{}: round {round} of {}", keeping.name(), arguments.rounds));
        for place in 0..ways.len() {
            let way = (place + round) % ways.len();
            programs.empty_redis().await?;
            let server = [&programs.nothing, &programs.nothing, &programs.naive, &programs.backends[0]][way];
            let before = (server.process.cpu_time()?, programs.redis.cpu_time()?);
            let slice = match way {
                1 => script::run(&programs.redis_url, &load(Vec::new(), None), &counter).await?,
                _ => load(vec![server.port], None).run(&counter, programs::request).await?,
            };
            let each = |spent: Duration| spent.div_f64(slice.requests as f64);
            let server_time = if way == 1 { Duration::ZERO } else { each(server.process.cpu_time()? - before.0) };
            let redis = each(programs.redis.cpu_time()? - before.1);
            let drained = if way == 3 { Some(growth::drain(&programs).await?) } else { None };
            if round > 0 {
                samples[way].push(Sample { slice, server: server_time, redis });
                drains.extend(drained);
            }
        }
    }
    writeln!(
        text,
        "## {}\n\n| way | events/s | CPU of the server | CPU of Redis | p50 | p99 | p99.9 |",
        keeping.name()
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for (way, samples) in ways.iter().zip(&samples) {
        writeln!(text, "| {way} | {} |", row(samples))?;
    }
    writeln!(
        text,
        "| the backend, working them off | {:.0} | {} | {} | | | |",
        median(drains.iter().map(|drain| drain.rate)),
        micros(median_of(&drains, |drain| drain.backends)),
        micros(median_of(&drains, |drain| drain.redis)),
    )?;
    let rate = |samples: &[Sample]| median(samples.iter().map(|sample| per_second(&sample.slice)));
    let cpu = |samples: &[Sample]| median(samples.iter().map(|sample| (sample.server + sample.redis).as_secs_f64()));
    let half = rate(&samples[3]) / 2.0;
    programs.empty_redis().await?;
    let at_half = load(programs.ports(), Some(half)).run(&counter, programs::request).await?;
    writeln!(
        text,
        "\nThe backend stores {:.2} of what the script alone does, for {:.2} × the CPU time of axum storing nothing. At half \
         its rate the answer takes {} at the median, and {} at p99.",
        rate(&samples[3]) / rate(&samples[1]),
        cpu(&samples[3]) / cpu(&samples[0]),
        micros(quantile(&at_half.latencies, 0.5)),
        micros(quantile(&at_half.latencies, 0.99)),
    )?;
    let to_storing =
        median(drains.iter().zip(&samples[3]).map(|(drain, stored)| drain.rate / per_second(&stored.slice)));
    writeln!(
        text,
        "What it has stored it works off {to_storing:.2} times as fast, round by round: each event is fetched from a Partner API \
         that answers at once, on the same cores, and handed to the log.\n"
    )?;
    Ok(())
}

fn row(samples: &[Sample]) -> String {
    let at = |share| micros(median_of(samples, |sample| quantile(&sample.slice.latencies, share)));
    format!(
        "{:.0} | {} | {} | {} | {} | {}",
        median(samples.iter().map(|sample| per_second(&sample.slice))),
        micros(median_of(samples, |sample| sample.server)),
        micros(median_of(samples, |sample| sample.redis)),
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

fn per_second(slice: &Slice) -> f64 {
    slice.requests as f64 / slice.elapsed.as_secs_f64()
}

fn micros(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default()
}

fn median_of<T>(samples: &[T], of: impl Fn(&T) -> Duration) -> Duration {
    Duration::from_secs_f64(median(samples.iter().map(|sample| of(sample).as_secs_f64())))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
