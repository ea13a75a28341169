//! `cargo sim`: runs only the simulator, for an edge and a backend that run elsewhere. `cargo sim
//! send` sends a single request.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use reqwest::Response;
use simulator::{
    Simulator,
    scenario::{self, Scenario, Sent},
    sender::{Sender, client},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

mod send;

/// Simulates TruEnroll and the partner's application for an edge and a backend that run elsewhere.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version = envelope::version::text())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The address for the Partner API (/partner/v1) and the sink (/outcomes).
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: String,
    /// The URL of the edge to send events to, without the webhook's path.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    edge: String,
    /// The webhook's path.
    #[arg(long, default_value = "/webhooks/truenroll")]
    path: String,
    /// The token that follows the webhook's path; empty for none.
    #[arg(long, env = "SIM_WEBHOOK_TOKEN", default_value = "", hide_env_values = true, allow_hyphen_values = true)]
    token: String,
    /// The approximate number of requests per second; 0 to send none.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// How long to send, in seconds; until stopped by default.
    #[arg(long)]
    duration: Option<u64>,
    /// The API key that the Partner API demands.
    #[arg(long, env = "SIM_API_KEY", default_value = simulator::API_KEY)]
    api_key: String,
    /// The secret with which the backend signs outcomes.
    #[arg(long, env = "SIM_SINK_SECRET", default_value = simulator::SINK_SECRET)]
    sink_secret: String,
    /// A line to print at the start, such as where the console is.
    #[arg(long, env = "SIM_ANNOUNCE", default_value = "")]
    announce: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that a running simulator answers. For container health checks.
    Ready {
        /// The simulator's URL.
        #[arg(default_value = "http://127.0.0.1:8090")]
        url: String,
    },
    /// Send one documented event, or a request that deserves a rejection, and print the answer.
    ///
    /// Exits with 0 if the answer is the one that such a request deserves.
    Send(Box<send::Arguments>),
}

/// The time between two reports.
const REPORTS: Duration = Duration::from_secs(5);
/// The time between two looks for the first outcome.
const FIRST: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Ready { url }) => ready(url).await?,
        Some(Command::Send(arguments)) => return send::run(arguments).await,
        None => simulate(&arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ready(url: &str) -> Result<()> {
    let answer = client().get(format!("{url}/healthz")).send().await;
    answer.and_then(Response::error_for_status).map(drop).with_context(|| format!("no simulator answers at {url}"))
}

async fn simulate(arguments: &Arguments) -> Result<()> {
    let simulator = Simulator::start(&arguments.listen, &arguments.api_key, &arguments.sink_secret).await?;
    println!("Simulating the Partner API and the partner's application at {}", simulator.url());
    if !arguments.announce.is_empty() {
        println!("{}", arguments.announce);
    }
    let stop = stopped_by_signal();
    if arguments.rate <= 0.0 {
        stop.cancelled().await;
        return Ok(());
    }
    let scenario = Scenario {
        rate: arguments.rate,
        duration: arguments.duration.map(Duration::from_secs),
        duplicates: 0.1,
        malformed: 0.1,
        seed: fastrand::u64(..),
    };
    let token = if arguments.token.is_empty() { String::new() } else { format!("/{}", arguments.token) };
    let sender = Arc::new(Sender::new(format!("{}{}{token}", arguments.edge, arguments.path)));
    let sent = Arc::new(Sent::default());
    let playing = scenario::play(&scenario, &simulator.world, &sender, &arguments.edge, &sent, &stop);
    tokio::pin!(playing);
    let reporting = async { tokio::join!(announce_first(&simulator), report_regularly(&sender, &simulator)) };
    tokio::select! {
        played = &mut playing => played?,
        _ = reporting => {}
    }
    sleep(Duration::from_secs(2)).await;
    report(&sender, &simulator);
    Ok(())
}

/// Returns a token that SIGTERM or Ctrl-C cancels.
fn stopped_by_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        // Without a signal handler, only the duration ends the run.
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        on_signal.cancel();
    });
    stop
}

/// Waits for the first outcome, and announces it.
async fn announce_first(simulator: &Simulator) {
    let began = Instant::now();
    let first = loop {
        match simulator.application.first_delivery() {
            Some(delivery) => break delivery,
            None => sleep(FIRST).await,
        }
    };
    println!("The first outcome was delivered after {:.1} s: {}", began.elapsed().as_secs_f64(), first.key);
}

async fn report_regularly(sender: &Sender, simulator: &Simulator) {
    loop {
        sleep(REPORTS).await;
        report(sender, simulator);
    }
}

fn report(sender: &Sender, simulator: &Simulator) {
    let tally = sender.tally();
    let (delivered, repeated) = simulator.application.counts();
    let rejected: u64 = tally.rejected.values().sum();
    println!(
        "sent {}  accepted {}  duplicates {}  rejected {rejected}  unavailable {}  delivered {delivered}  repeated {repeated}",
        tally.sent, tally.accepted, tally.duplicates, tally.unavailable
    );
}
