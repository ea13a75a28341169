//! Breaks everything that can break while events come in, and then checks that every promise was kept.
//!
//! [`traffic`] sends the events, [`faults`] kills, stops and fails things meanwhile, and [`checker`] compares what the
//! sender, the application and Redis recorded. Chance has a seed, which makes the same traffic and the same faults, though
//! not the same interleaving of them.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::{
    simulator::{Simulator, sender::Sender},
    stack::{API_KEY, Options, SINK_SECRET, Stack, group},
    tools,
};

mod checker;
mod faults;
mod network;
mod traffic;

pub use checker::Violation;
pub use faults::Kind;
pub use network::Path;

use faults::Faults;
use traffic::Traffic;

/// How much chaos.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// Where chance begins.
    pub seed: u64,
    /// How long things break.
    pub duration: Duration,
    /// How many events are sent meanwhile, about, each second.
    pub rate: f64,
    /// How many backends there are, 1 to 3.
    pub backends: usize,
    /// Several Redis servers in place of one.
    pub redis: Option<group::Kind>,
    /// A protection of the backends that is taken out: see `backend::mutation`.
    pub mutation: Option<String>,
    /// What breaks, one chosen after the other.
    pub faults: Vec<Kind>,
    /// How long everything may take to settle once nothing breaks any more.
    pub settling: Duration,
}

/// What happened.
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
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// Where the programs' logs and data are kept, if a promise was broken.
    logs: Option<PathBuf>,
}

/// How long a partition stays with a backend that is silent.
const LEASE: Duration = Duration::from_secs(1);

/// Runs it. The caller's thread must not end before, since the programs that it starts end with it.
///
/// # Errors
/// Where it could not be run; broken promises are in the report.
pub async fn run(chaos: &Chaos) -> Result<Report> {
    let mut kinds = chaos.faults.clone();
    if kinds.contains(&Kind::ClockJumped) && !tools::has_faketime() {
        kinds.retain(|kind| *kind != Kind::ClockJumped);
    }
    let clocks = kinds.contains(&Kind::ClockJumped);
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
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
    .backend("BACKEND__WORKER__LEASE_MS", LEASE.as_millis())
    .backend("BACKEND__WORKER__BACKOFF_BASE_MS", 20)
    .backend("BACKEND__WORKER__BACKOFF_CAP_MS", 500)
    // By a clock that is years ahead every event is old enough to be given up.
    .backend("BACKEND__WORKER__MIN_ATTEMPTS", 1_000)
    .backend("BACKEND__PARTNER_API__TIMEOUT_MS", 2_000)
    .backend("BACKEND__SINK__TIMEOUT_MS", 2_000)
    .backend("BACKEND__WORKER__ATTEMPT_TIMEOUT_MS", 5_000);
    let mut stack = Stack::start(options)?;
    let sender = Arc::new(Sender::new(stack.webhook()));
    let mut rng = Rng::with_seed(chaos.seed);

    // So that there is always something in hand when a backend is killed.
    simulator.application.set_pace(Duration::from_millis(50));
    let traffic = Traffic::start(&simulator.world, &sender, chaos, rng.fork());
    let mut faults = Faults::new(rng);
    let until = Instant::now() + chaos.duration;
    while Instant::now() < until {
        faults.one(&mut stack, &simulator, &kinds).await?;
    }
    faults.heal(&mut stack, &simulator)?;
    let mut sent = traffic.finish().await.context("the traffic ended too early")?;
    let healed = std::time::Instant::now();
    let settled = checker::settle(&simulator, &sent, &stack, chaos.settling).await?;
    // Nothing breaks any more, and no lease of before is left: from here on nothing may happen twice.
    sleep(LEASE * 3).await;
    let calm = std::time::Instant::now();
    sent.extend(traffic::one_more_of_each(&simulator.world, &sender, &sent).await);
    checker::settle(&simulator, &sent, &stack, chaos.settling).await?;

    let unavailable = sender.tally().unavailable;
    stack.stop_backends()?;
    let violations = checker::check(&simulator, &sent, &faults, calm, &stack.redis_urls()?).await?;
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
    /// How often something broke.
    pub fn count(&self, kind: Kind) -> usize {
        self.faults.get(&kind).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, accepted, lanes, repeated_requests, unavailable, deliveries, delivered_again, .. } = self;
        writeln!(
            f,
            "seed {seed}: {accepted} events accepted in {lanes} lanes, {repeated_requests} sent again, {unavailable} answers of 503"
        )?;
        writeln!(f, "delivered {deliveries}, again after a fault {delivered_again}, settled in {:.1?}", self.settled)?;
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        let network: Vec<_> =
            self.network.iter().map(|((path, fault), count)| format!("{} {fault} {count}", path.as_str())).collect();
        if !network.is_empty() {
            writeln!(f, "network: {}", network.join(", "))?;
        }
        for violation in self.violations.iter().take(20) {
            writeln!(f, "BROKEN: {violation}")?;
        }
        if let Some(logs) = &self.logs {
            writeln!(f, "logs: {}", logs.display())?;
        }
        write!(f, "{} broken promises", self.violations.len())
    }
}
