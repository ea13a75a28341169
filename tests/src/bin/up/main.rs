//! `cargo up`: the whole edge on this machine, with TruEnroll and the partner's application played by the simulator.

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
    simulator::{
        Simulator,
        scenario::{self, Scenario, Sent},
        sender::Sender,
    },
    stack::{API_KEY, Options, SINK_SECRET, Stack},
    tools::{self, say},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

mod summary;

use summary::{Live, Summary};

/// Runs the whole edge on this machine: Envoy with the filter, the backend, Redis, and a simulator of TruEnroll.
#[derive(Debug, Parser)]
#[command(name = "cargo up", bin_name = "cargo up")]
struct Arguments {
    /// How many seconds to send events; until Ctrl-C where not given.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// About how many requests to send each second.
    #[arg(long, value_name = "REQUESTS", default_value_t = 50.0, value_parser = positive)]
    rate: f64,
    /// Which share of the events to deliver twice, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    duplicates: f64,
    /// How many malformed requests to send for each event, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    malformed: f64,
    /// Where chance begins; the same seed makes the same cases.
    #[arg(long)]
    seed: Option<u64>,
    /// The port that takes webhooks; 8080 where it is free.
    #[arg(long)]
    port: Option<u16>,
    /// When the time is up, keep everything running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Keep data and logs in this folder.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// How long events that were accepted may take to be delivered after the last one was sent.
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

/// Whether everything that was sent had the end that it should.
async fn run(arguments: &Arguments, stop: &CancellationToken) -> Result<bool> {
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    let mut stack = start(arguments, &simulator)?;
    simulator.world.upload(EXAMPLE_CASE, Some("applicant-9876"), &Feature::ALL);
    let example = simulator.world.end(EXAMPLE_CASE, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    println!("\ntruenroll-edge is up; Ctrl-C stops it\n");
    println!("  webhook  {}", stack.webhook());
    println!("  backend  {0}/readyz  {0}/metrics", stack.admin());
    println!("  Envoy    {}/stats/prometheus", stack.envoy_admin_url());
    println!("  logs     {}", stack.folder().display());
    println!("\nsend the documented example yourself:\n");
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
    let (sender, sent) = (Arc::new(Sender::new(stack.webhook())), Arc::new(Sent::default()));
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
        say("the time is up; everything keeps running until Ctrl-C");
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
    if !figures.is_right() {
        stack.keep_folder();
        println!("  what the programs wrote stays in {}", stack.folder().display());
    }
    stack.stop()?;
    Ok(figures.is_right())
}

fn start(arguments: &Arguments, simulator: &Simulator) -> Result<Stack> {
    say("tools: looking for Envoy, Redis and a WebAssembly compiler; what is missing is fetched");
    tools::envoy()?;
    let redis_url = env::var("REDIS_URL").ok();
    if redis_url.is_none() {
        tools::redis_server()?;
    }
    tools::wasm_filter()?;
    say("backend: building");
    tools::workspace_binary("backend", "backend", &[])?;
    say("starting Redis, the backend and Envoy");
    let mut options = Options::new(simulator.url());
    if let Some(folder) = &arguments.dir {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        options.folder = Some(folder.canonicalize()?);
    }
    options.edge_port = match arguments.port {
        Some(port) => {
            TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("cannot take webhooks on port {port}"))?;
            Some(port)
        }
        None => TcpListener::bind("127.0.0.1:8080").ok().map(|_| 8080),
    };
    if let Some(url) = redis_url {
        // Somebody else's server: keep apart from what it holds, and demand nothing of its settings.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        options = options
            .backend("BACKEND__REDIS__PREFIX", format!("up-{now}"))
            .backend("BACKEND__REDIS__DURABILITY", "memory")
            .backend("BACKEND__REDIS__CHECK_SERVER", "false");
        options.redis_url = Some(url);
    }
    Stack::start(options)
}

/// The first Ctrl-C stops the traffic and ends in order, the second one ends at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
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
    text.parse().ok().filter(|rate| (0.1..=10_000.0).contains(rate)).ok_or_else(|| "not from 0.1 to 10000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "not from 0 to 1".to_owned())
}
