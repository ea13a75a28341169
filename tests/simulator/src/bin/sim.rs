//! `cargo sim`: runs only the simulator, for an edge and a backend that run elsewhere.

#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Parser;
use simulator::{
    Simulator,
    scenario::{self, Scenario, Sent},
    sender::Sender,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Simulates TruEnroll and the partner's application for an edge and a backend that run elsewhere.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version = envelope::version::text())]
struct Arguments {
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
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let simulator = Simulator::start(&arguments.listen, &arguments.api_key, &arguments.sink_secret).await?;
    println!("Simulating the Partner API and the partner's application at {}", simulator.url());
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
    loop {
        tokio::select! {
            played = &mut playing => break played?,
            () = sleep(Duration::from_secs(5)) => report(&sender, &simulator),
        }
    }
    sleep(Duration::from_secs(2)).await;
    report(&sender, &simulator);
    Ok(())
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
