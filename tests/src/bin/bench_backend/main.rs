//! `cargo bench-backend`: measures what storing an event before acknowledging it costs, compared
//! with upper bounds from the same run.
//!
//! For each durability of Redis, rounds alternate between: axum that answers 202 and stores
//! nothing; the Lua script that stores an event, called without HTTP by the same number of clients;
//! a naive design; the backend; and the backend while it handles the events that it has stored.
//! Afterwards the latency is measured at half of the highest rate. [`growth`] measures more
//! backends, more partitions, and a long backlog, [`history`] what the history costs, and [`traces`] what
//! traces cost.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use harness::{
    load::{Load, Slice},
    tools::say,
};

mod growth;
mod history;
mod peers;
mod programs;
mod script;
mod traces;

use peers::Peer;
use programs::{Keeping, Programs, Setup};

/// Measures what storing an event before acknowledging it costs.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-backend", bin_name = "cargo bench-backend")]
struct Arguments {
    /// The number of rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// The length of each measurement in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The number of connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// The number of events that are stored and then handled for each number of backends and
    /// partitions.
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// The number of events of the longest backlog; 0 to skip the tables of backends, partitions
    /// and backlogs.
    #[arg(long, default_value_t = 1_000_000)]
    longest: u64,
    /// The file that the tables are written to.
    #[arg(long, default_value = "docs/bench-backend.md")]
    out: PathBuf,
    /// Measure only this part, and print its tables instead of writing them to the file.
    #[arg(long)]
    only: Option<Part>,
    /// Internal: run one of the peers on this port, with this Partner API and this Redis.
    #[arg(long, hide = true)]
    serve: Option<Peer>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    #[arg(long, hide = true, default_value = "")]
    api: String,
    #[arg(long, hide = true, default_value = "")]
    redis: String,
}

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Storing,
    Growth,
    History,
    Traces,
}

/// One measurement.
struct Sample {
    slice: Slice,
    /// CPU time per event of the program that answers.
    server: Duration,
    /// CPU time per event of Redis.
    redis: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(peer) = arguments.serve {
        return peer.serve(arguments.port, &arguments.api, &arguments.redis).await;
    }
    let mut text = format!(
        "# What storing an event before acknowledging it costs\n\nMeasured by `cargo bench-backend --rounds {} --seconds {} \
         --connections {} --backlog {} --longest {}`,\nwith the load generator and the servers on the same {} cores. All \
         values are medians over the rounds. CPU times are per event,\nfor the server (the program that answers) and \
         for Redis. \"The Lua script alone\" is the script that stores an event, called\ndirectly by the load generator, \
         so there is no server. p50, p99 and p99.9 are latencies of the answer.\nThe naive design sets a key if it is \
         new (SETNX), fetches the result from a Partner API that answers at once, and then answers.\nWhen it answers, it \
         has done more work than the others, but a crash between setting the key and answering loses the event.\n\n",
        arguments.rounds,
        arguments.seconds,
        arguments.connections,
        arguments.backlog,
        arguments.longest,
        std::thread::available_parallelism()?
    );
    let is_wanted = |part| arguments.only.is_none_or(|only| only == part);
    if is_wanted(Part::Storing) {
        for keeping in Keeping::ALL {
            measure(&arguments, keeping, &mut text).await?;
        }
    }
    if arguments.longest > 0 && is_wanted(Part::Growth) {
        growth::backends_and_partitions(&arguments, &mut text).await?;
        growth::backlog(&arguments, &mut text).await?;
    }
    if is_wanted(Part::History) {
        history::compare(&arguments, &mut text).await?;
    }
    if is_wanted(Part::Traces) {
        traces::compare(&arguments, &mut text).await?;
    }
    println!("{text}");
    if arguments.only.is_some() {
        return Ok(());
    }
    fs::write(&arguments.out, text).with_context(|| format!("cannot write {}", arguments.out.display()))
}

async fn measure(arguments: &Arguments, keeping: Keeping, text: &mut String) -> Result<()> {
    let programs = Programs::start(Setup::usual(keeping)).await?;
    let counter = Arc::new(AtomicU64::new(0));
    let load = |ports: Vec<u16>, rate| Load {
        ports,
        connections: arguments.connections,
        rate,
        status: 202,
        duration: Duration::from_secs_f64(arguments.seconds),
    };
    let ways = ["axum, storing nothing", "the Lua script alone", "the naive design", "the backend"];
    let mut samples = <[Vec<Sample>; 4]>::default();
    let mut drains = Vec::new();
    // The first round warms up and is discarded.
    for round in 0..=arguments.rounds {
        say(&format!("{}: round {round} of {}", keeping.name(), arguments.rounds));
        for place in 0..ways.len() {
            let way = (place + round) % ways.len();
            programs.empty_redis().await?;
            let server = [&programs.nothing, &programs.nothing, &programs.naive, &programs.backends[0]][way];
            let before = (server.process.cpu_time()?, programs.redis.process.cpu_time()?);
            let slice = match way {
                1 => script::run(&programs.redis_url, &load(Vec::new(), None), &counter).await?,
                _ => load(vec![server.port], None).run(&counter, programs::request).await?,
            };
            let each = |spent: Duration| spent.div_f64(slice.requests as f64);
            let server_time = if way == 1 { Duration::ZERO } else { each(server.process.cpu_time()? - before.0) };
            let redis = each(programs.redis.process.cpu_time()? - before.1);
            let drained = if way == 3 { Some(growth::drain(&programs).await?) } else { None };
            if round > 0 {
                samples[way].push(Sample { slice, server: server_time, redis });
                drains.extend(drained);
            }
        }
    }
    writeln!(
        text,
        "## {}\n\n| implementation | events/s | CPU of the server | CPU of Redis | p50 | p99 | p99.9 |",
        keeping.name()
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for (way, samples) in ways.iter().zip(&samples) {
        writeln!(text, "| {way} | {} |", row(samples))?;
    }
    writeln!(
        text,
        "| the backend, handling the stored events | {:.0} | {} | {} | | | |",
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
        "\nThe backend stores {:.2} × as many events per second as the Lua script alone. Together with Redis it takes \
         {:.2} × the CPU time of axum\nstoring nothing. When events arrive at half of its rate in the table, it answers \
         within {} (p50) and {} (p99).",
        rate(&samples[3]) / rate(&samples[1]),
        cpu(&samples[3]) / cpu(&samples[0]),
        micros(quantile(&at_half.latencies, 0.5)),
        micros(quantile(&at_half.latencies, 0.99)),
    )?;
    let to_storing =
        median(drains.iter().zip(&samples[3]).map(|(drain, stored)| drain.rate / per_second(&stored.slice)));
    writeln!(
        text,
        "The rate at which it handles events is {to_storing:.2} × the rate at which it stores them. This is the median \
         of the ratios of the rounds,\nnot the ratio of the medians in the table. To handle an event is to fetch its \
         result from a Partner API that answers at once,\non the same cores, and to write its outcome to the log.\n"
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
