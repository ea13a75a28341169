//! `cargo up`: runs everything on this machine, with a simulator of TruEnroll and of the partner's
//! application.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use clap::Parser;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    simulator::{
        Simulator,
        scenario::{self, Scenario, Sent},
        sender::Sender,
    },
    stack::{Options, Stack},
    tools::{self, say},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

mod summary;

use summary::{Live, Summary};

/// Runs everything on this machine: Envoy with the filter, the backend, Redis, and a simulator that
/// sends events and receives their outcomes.
#[derive(Debug, Parser)]
#[command(name = "cargo up", bin_name = "cargo up", version = envelope::version::text())]
struct Arguments {
    /// How long to send events; until Ctrl-C by default.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// The approximate number of requests per second.
    #[arg(long, value_name = "REQUESTS", default_value_t = 50.0, value_parser = positive)]
    rate: f64,
    /// The share of the events to send twice, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    duplicates: f64,
    /// The number of malformed requests per event, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    malformed: f64,
    /// The seed of the random numbers. The same seed generates the same cases.
    #[arg(long)]
    seed: Option<u64>,
    /// The port for webhooks; 8080 by default, or a free port if that is in use.
    #[arg(long)]
    port: Option<u16>,
    /// After the duration, stop sending but keep everything running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// The folder for data and logs; a temporary one by default.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// How long the delivery of accepted events may take after the last one was sent.
const DRAIN: Duration = Duration::from_secs(30);
const EXAMPLE_CASE: &str = "6850abc123def456ghi789";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stop = CancellationToken::new();
    if let Err(error) = stop_on_signals(&stop) {
        say(&format!("cargo up: {error}"));
        return ExitCode::FAILURE;
    }
    match run(&arguments, &stop).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("cargo up: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs everything, and returns whether every request had the expected result.
async fn run(arguments: &Arguments, stop: &CancellationToken) -> Result<bool> {
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    let mut stack = start(arguments, &simulator)?;
    simulator.world.upload(EXAMPLE_CASE, Some("applicant-9876"), &Feature::ALL);
    let example = simulator.world.finish(EXAMPLE_CASE, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    println!("\ntruenroll-edge is running. Ctrl-C stops it.\n");
    println!("  webhook  {}", stack.webhook());
    println!("  backend  {0}/readyz  {0}/metrics", stack.admin());
    println!("  Envoy    {}/stats/prometheus", stack.envoy_admin_url());
    println!("  logs     {}", stack.folder().display());
    println!("\nSend the documented example event yourself:\n");
    println!(
        "  curl -i {} -H 'content-type: application/json' -d '{}'\n",
        stack.webhook(),
        example.map(|e| e.body).unwrap_or_default()
    );

    let scenario = Scenario {
        rate: arguments.rate,
        duration: arguments.duration.map(Duration::from_secs),
        duplicates: arguments.duplicates,
        malformed: arguments.malformed,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
    };
    let sender = Arc::new(Sender::new(stack.webhook()));
    let sent = Arc::new(Sent::default());
    let summary = Summary::new(&stack, &simulator, &sender, &sent, scenario.seed).await?;
    let mut live = Live::default();
    let edge = stack.edge();
    let playing = scenario::play(&scenario, &simulator.world, &sender, &edge, &sent, stop);
    tokio::pin!(playing);
    loop {
        tokio::select! {
            played = &mut playing => break played?,
            () = sleep(Duration::from_secs(1)) => live.show(&summary.read().await?),
        }
    }
    if arguments.keep && !stop.is_cancelled() {
        say("no more events are sent; everything keeps running until Ctrl-C");
        while stop.run_until_cancelled(sleep(Duration::from_secs(1))).await.is_some() {
            live.show(&summary.read().await?);
        }
    }
    let deadline = Instant::now() + DRAIN;
    while !summary.read().await?.is_drained() && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    let figures = summary.read().await?;
    live.end();
    println!("{figures}");
    if !figures.is_correct() {
        stack.keep_folder();
        println!("  data and logs are kept in {}", stack.folder().display());
    }
    stack.stop()?;
    Ok(figures.is_correct())
}

fn start(arguments: &Arguments, simulator: &Simulator) -> Result<Stack> {
    say("looking for Envoy, Redis and a WebAssembly compiler; tools that are missing will be installed");
    tools::envoy()?;
    let redis_url = env::var("REDIS_URL").ok();
    if redis_url.is_none() {
        tools::redis_server()?;
    }
    tools::wasm_filter()?;
    say("building the backend");
    tools::workspace_binary("backend", "backend", &[])?;
    say("starting Redis, the backend and Envoy");
    let mut options = Options::new(simulator.url());
    if let Some(folder) = &arguments.dir {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        options.folder = Some(folder.canonicalize()?);
    }
    options.edge_port = match arguments.port {
        Some(port) => {
            TcpListener::bind(("127.0.0.1", port))
                .with_context(|| format!("cannot listen for webhooks on port {port}"))?;
            Some(port)
        }
        None => TcpListener::bind("127.0.0.1:8080").ok().map(|_| 8080),
    };
    if let Some(url) = redis_url {
        // The server belongs to somebody else: use keys of our own, and accept its settings as they
        // are.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        options = options
            .backend("redis.prefix", format!("up-{now}"))
            .backend("redis.durability", "memory")
            .backend("redis.check_server", "false");
        options.redis_url = Some(url);
    }
    Stack::start(options)
}

/// Makes the first Ctrl-C stop the traffic and shut down in order, and the second one exit at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.1..=10_000.0).contains(rate))
        .ok_or_else(|| "must be from 0.1 to 10000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be from 0 to 1".to_owned())
}
