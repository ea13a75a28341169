//! Injects random faults into a stack while events arrive, and then checks that every promise was
//! kept.
//!
//! [`traffic`] sends the events, [`faults`] injects the faults, and [`checker`] compares what the
//! sender, the application and Redis recorded. The same seed generates the same traffic and the
//! same faults, but not the same interleaving of the two.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fastrand::Rng;
use simulator::{Simulator, sender::Sender};
use tokio::time::{Instant, sleep};

use crate::{
    backend_settings::{API_KEY, SINK_SECRET},
    outcomes::Contract,
    stack::{Options, Stack, group},
    tools,
};

pub mod checker;
mod faults;
mod history;
mod network;
pub mod traffic;

pub use checker::Violation;
pub use faults::Kind;
pub use history::{Explains, History};
pub use network::Path;

use faults::Faults;
use traffic::{Load, Sending, Traffic};

/// A chaos run.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The seed of the random numbers.
    pub seed: u64,
    /// How long faults are injected.
    pub duration: Duration,
    /// The approximate number of events per second.
    pub rate: f64,
    /// The number of backends, 1 to 3.
    pub backends: usize,
    /// Several Redis servers instead of one.
    pub redis: Option<group::Kind>,
    /// The protection that is removed from the backends: see `backend::mutation`.
    pub mutation: Option<String>,
    /// The faults to choose from. A fault that is listed twice is chosen twice as often.
    pub faults: Vec<Kind>,
    /// How long the backends may take to handle all events after the last fault.
    pub settling: Duration,
}

/// The result of a chaos run.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    accepted: usize,
    lanes: usize,
    repeated_requests: usize,
    unavailable: u64,
    deliveries: usize,
    delivered_again: usize,
    faults: BTreeMap<Kind, usize>,
    network: BTreeMap<(Path, &'static str), usize>,
    settled: Duration,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
    /// The folder with the programs' logs and data. It is kept only if a promise was broken.
    logs: Option<PathBuf>,
}

/// The lifetime of a lease: how long a partition stays with a backend that has stopped.
const LEASE: Duration = Duration::from_secs(1);

/// Runs the chaos. The calling thread must outlive the run, since the programs end with the thread
/// that started them.
///
/// # Errors
/// If the run itself failed. Broken promises are in the report instead.
pub async fn run(chaos: &Chaos) -> Result<Report> {
    let mut kinds = chaos.faults.clone();
    if kinds.contains(&Kind::ClockJumped) && !tools::has_faketime() {
        kinds.retain(|kind| *kind != Kind::ClockJumped);
    }
    let clocks = kinds.contains(&Kind::ClockJumped);
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    Contract::hold(&simulator.application)?;
    if clocks {
        simulator.application.accept_any_time();
    }
    let options = Options {
        replicas: chaos.backends - 1,
        mutation: chaos.mutation.clone(),
        group: chaos.redis,
        proxied: true,
        clocks,
        ..Options::new(simulator.url())
    }
    .backend("worker.lease_ms", LEASE.as_millis())
    .backend("worker.backoff_base_ms", 20)
    .backend("worker.backoff_cap_ms", 500)
    // For a backend whose clock is years ahead, every event is old enough to be given up.
    .backend("worker.min_attempts", 1_000)
    .backend("partner_api.timeout_ms", 2_000)
    .backend("sink.timeout_ms", 2_000)
    .backend("worker.attempt_timeout_ms", 5_000);
    let mut stack = Stack::start(options)?;
    let sender = Arc::new(Sender::new(stack.webhook()));
    let mut rng = Rng::with_seed(chaos.seed);

    // Slow deliveries make it likely that a killed backend is in the middle of an attempt.
    simulator.application.set_pace(Duration::from_millis(50));
    let name = format!("chaos-{}", chaos.seed);
    let load = Load { name, rate: chaos.rate, sending: Sending::UntilAccepted };
    let traffic = Traffic::start(&simulator.world, &sender, &load, rng.fork());
    let mut faults = Faults::new(rng);
    let until = Instant::now() + chaos.duration;
    while Instant::now() < until {
        faults.one(&mut stack, &simulator, &kinds).await?;
    }
    faults.heal(&mut stack, &simulator)?;
    let mut sent = traffic.stop().await.context("a task that sends traffic panicked")?;
    let healed = std::time::Instant::now();
    let waiting = async || Ok(stack.backend_metrics().await?.sum("truenroll_backend_inbox_entries", &[]));
    let settled = checker::settle(&simulator, &sent, waiting, chaos.settling).await?;
    // After this no fault is active and no old lease is left, so from here on nothing may be
    // delivered twice.
    sleep(LEASE * 3).await;
    let calm = std::time::Instant::now();
    sent.extend(traffic::one_more_of_each(&simulator.world, &sender, &sent).await);
    checker::settle(&simulator, &sent, waiting, chaos.settling).await?;

    let unavailable = sender.tally().unavailable;
    stack.stop_backends()?;
    let violations = checker::check(&simulator, &sent, faults.history(), calm, &stack.redis_urls()?).await?;
    if !violations.is_empty() {
        stack.keep_folder();
    }
    let logs = (!violations.is_empty()).then(|| stack.folder().to_owned());
    let (deliveries, delivered_again) = simulator.application.counts();
    stack.stop()?;
    Ok(Report {
        seed: chaos.seed,
        accepted: sent.iter().map(|lane| lane.accepted.len()).sum(),
        lanes: sent.len(),
        repeated_requests: sent.iter().map(|lane| lane.repeated).sum(),
        unavailable,
        deliveries: deliveries as usize,
        delivered_again: delivered_again as usize,
        faults: faults.counts(),
        network: faults.network_counts(),
        settled: settled.duration_since(healed),
        violations,
        logs,
    })
}

impl Report {
    /// How often a fault was injected.
    pub fn count(&self, kind: Kind) -> usize {
        self.faults.get(&kind).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, accepted, lanes, repeated_requests, unavailable, deliveries, delivered_again, .. } = self;
        writeln!(
            f,
            "seed {seed}: {accepted} events accepted in {lanes} lanes, {repeated_requests} repeated requests, {unavailable} answers of 503"
        )?;
        writeln!(
            f,
            "{deliveries} outcomes delivered, {delivered_again} repeated deliveries, settled after {:.1?}",
            self.settled
        )?;
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        let network: Vec<_> =
            self.network.iter().map(|((path, fault), count)| format!("{} {fault} {count}", path.as_str())).collect();
        if !network.is_empty() {
            writeln!(f, "network faults: {}", network.join(", "))?;
        }
        for violation in self.violations.iter().take(20) {
            writeln!(f, "BROKEN PROMISE: {violation}")?;
        }
        if let Some(logs) = &self.logs {
            writeln!(f, "logs and data: {}", logs.display())?;
        }
        write!(f, "{} broken promises", self.violations.len())
    }
}
