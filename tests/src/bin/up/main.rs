//! `cargo up`: runs everything on this machine, with a simulator of TruEnroll and of the partner's
//! application.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Parser;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    simulator::{
        EXAMPLE_CASE, EXAMPLE_EXTERNAL_ID, Simulator,
        scenario::{self, Scenario, Sent},
        sender::Sender,
    },
    tools::say,
};
use reqwest::Url;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

mod answers;
mod places;
mod start;
mod summary;

use answers::{Answers, Application};
use places::Places;
use summary::{Live, Summary};

/// Runs everything on this machine: Envoy with the filter, the backend, Redis, and a simulator that
/// sends events and receives their outcomes.
#[derive(Debug, Parser)]
#[command(name = "cargo up", bin_name = "cargo up", version = envelope::version::text())]
struct Arguments {
    /// How long to send events; until Ctrl-C by default.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// The approximate number of requests per second; 0 to send none [default: 50, or 1 with
    /// --sink].
    #[arg(long, value_name = "REQUESTS", value_parser = rate)]
    rate: Option<f64>,
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
    /// Deliver the outcomes to your own application at this URL, instead of the simulated one, and
    /// show each of its answers.
    #[arg(long, value_name = "URL", value_parser = url)]
    sink: Option<String>,
    /// The folder for data and logs. By default target/up, which is emptied first; or a temporary
    /// folder if another `cargo up` runs.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

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
    let (mut stack, _claim) = start::start(arguments, &simulator)?;
    simulator.world.upload(EXAMPLE_CASE, Some(EXAMPLE_EXTERNAL_ID), &Feature::ALL);
    let example = simulator.world.finish(EXAMPLE_CASE, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let places = Places { stack: &stack, simulator: &simulator, sink: arguments.sink.as_ref() };
    let left = places.leave()?;
    println!("{places}");
    println!("Send the documented example event, or any other:\n");
    println!(
        "  curl -i {} -H 'content-type: application/json' -d '{}'",
        stack.webhook(),
        example.map(|e| e.body).unwrap_or_default()
    );
    println!("  {}\n", places.send_command());

    let scenario = arguments.scenario();
    let sender = Arc::new(Sender::new(stack.webhook()));
    let sent = Arc::new(Sent::default());
    let application = if arguments.sink.is_some() { Application::Own } else { Application::Simulated };
    let summary = Summary::new(&stack, &simulator, application, &sender, &sent, scenario.seed).await?;
    let mut live = Live::default();
    let mut answers = Answers::follow(&stack.folder().join("backend.log"), application)?;
    let edge = stack.edge();
    let playing = play(&scenario, &simulator, &sender, &edge, &sent, stop);
    tokio::pin!(playing);
    loop {
        tokio::select! {
            played = &mut playing => break played?,
            () = sleep(Duration::from_secs(1)) => live.show(&answers.since_last()?, &summary.read().await?),
        }
    }
    if arguments.keep && !stop.is_cancelled() {
        say("no more events are sent; everything keeps running until Ctrl-C");
        while stop.run_until_cancelled(sleep(Duration::from_secs(1))).await.is_some() {
            live.show(&answers.since_last()?, &summary.read().await?);
        }
    }
    let deadline = Instant::now() + application.patience();
    while !summary.read().await?.is_drained() && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    let figures = summary.read().await?;
    live.end(&answers.since_last()?);
    println!("{figures}");
    drop(left);
    if !figures.is_correct() {
        stack.keep_folder();
        println!("  data and logs are kept in {}", stack.folder().display());
    }
    stack.stop()?;
    Ok(figures.is_correct())
}

/// Sends the events of a scenario. At a rate of 0 it only waits for the end.
async fn play(
    scenario: &Scenario,
    simulator: &Simulator,
    sender: &Arc<Sender>,
    edge: &str,
    sent: &Arc<Sent>,
    stop: &CancellationToken,
) -> Result<()> {
    if scenario.rate > 0.0 {
        return scenario::play(scenario, &simulator.world, sender, edge, sent, stop).await;
    }
    match scenario.duration {
        Some(duration) => _ = stop.run_until_cancelled(sleep(duration)).await,
        None => stop.cancelled().await,
    }
    Ok(())
}

impl Arguments {
    fn scenario(&self) -> Scenario {
        // With an application of the developer's own, each delivery is shown.
        let usual = if self.sink.is_some() { 1.0 } else { 50.0 };
        Scenario {
            rate: self.rate.unwrap_or(usual),
            duration: self.duration.map(Duration::from_secs),
            duplicates: self.duplicates,
            malformed: self.malformed,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        }
    }
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

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| *rate == 0.0 || (0.1..=10_000.0).contains(rate))
        .ok_or_else(|| "must be 0, or from 0.1 to 10000".to_owned())
}

fn url(text: &str) -> Result<String, String> {
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.password().is_none();
    Url::parse(text)
        .ok()
        .filter(is_http)
        .map(|_| text.to_owned())
        .ok_or_else(|| "must be http(s)://HOST[:PORT]/PATH, without a password".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be from 0 to 1".to_owned())
}
