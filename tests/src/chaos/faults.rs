//! The faults, and their history.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use fastrand::Rng;
use serde_json::json;
use simulator::{Simulator, world::Fault};
use tokio::time::sleep;

use super::{
    LEASE,
    history::{Explains, History},
    network::Path,
};
use crate::{
    process::Process,
    stack::{Stack, group::Failure},
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A backend is killed (SIGKILL) and started again.
    BackendKilled,
    /// A backend is stopped (SIGSTOP) for 0.5 to 2.5 times the lifetime of a lease.
    BackendStopped,
    /// Redis is killed and started again on its append-only file. With several servers, a primary
    /// is killed or stopped until its replica has taken over.
    RedisKilled,
    /// Some calls of the Partner API fail or are slow.
    PartnerApi,
    /// The application answers some deliveries with an error or slowly.
    Application,
    /// Another build of the filter is published.
    FilterSwapped,
    /// The network between one or all backends and one of their dependencies fails.
    Network(Path),
    /// The clock of one backend jumps, and stays wrong until it jumps again. Left out if
    /// libfaketime is not available.
    ClockJumped,
}

impl Kind {
    /// All faults, each as often as it should be chosen.
    pub const USUAL: [Self; 17] = [
        Self::BackendKilled,
        Self::BackendKilled,
        Self::BackendKilled,
        Self::BackendKilled,
        Self::BackendStopped,
        Self::BackendStopped,
        Self::BackendStopped,
        Self::RedisKilled,
        Self::PartnerApi,
        Self::Application,
        Self::Application,
        Self::FilterSwapped,
        Self::Network(Path::Redis),
        Self::Network(Path::Redis),
        Self::Network(Path::PartnerApi),
        Self::Network(Path::Sink),
        Self::ClockJumped,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BackendKilled => "backend killed",
            Self::BackendStopped => "backend stopped",
            Self::RedisKilled => "Redis killed",
            Self::PartnerApi => "Partner API failing or slow",
            Self::Application => "application failing or slow",
            Self::FilterSwapped => "filter swapped",
            Self::Network(Path::Redis) => "network to Redis",
            Self::Network(Path::PartnerApi) => "network to the Partner API",
            Self::Network(Path::Sink) => "network to the sink",
            Self::ClockJumped => "clock jumped",
        }
    }
}

/// The jumps of a clock in seconds: by minutes, hours, a day and three years, in both directions.
const JUMPS: [i64; 9] = [0, 300, -300, 4 * 3_600, -4 * 3_600, 86_400, -86_400, 3 * 31_536_000, -3 * 31_536_000];

/// Injects faults, and records when.
pub(super) struct Faults {
    rng: Rng,
    counts: BTreeMap<Kind, usize>,
    /// The number of network faults by path and kind.
    network: BTreeMap<(Path, &'static str), usize>,
    history: History,
    swaps: u32,
}

impl Faults {
    pub(super) fn new(rng: Rng) -> Self {
        Self { rng, counts: BTreeMap::new(), network: BTreeMap::new(), history: History::new(LEASE * 3), swaps: 0 }
    }

    /// Injects one random fault, and waits for a moment afterwards.
    pub(super) async fn one(&mut self, stack: &mut Stack, simulator: &Simulator, kinds: &[Kind]) -> Result<()> {
        let which = self.rng.usize(..=stack.replicas.len());
        let kind = kinds[self.rng.usize(..kinds.len())];
        let began = Instant::now();
        let mut what = format!("{} ({which})", kind.as_str());
        let mut explains = match kind {
            Kind::BackendKilled | Kind::BackendStopped | Kind::RedisKilled => Explains::AnotherDelivery,
            _ => Explains::Nothing,
        };
        match kind {
            Kind::BackendKilled => {
                backend(stack, which).kill()?;
                match which {
                    0 => stack.start_backend()?,
                    other => stack.start_replica(other - 1)?,
                }
            }
            Kind::BackendStopped => {
                let pause = LEASE.mul_f64(0.5 + self.rng.f64() * 2.0);
                backend(stack, which).signal("STOP")?;
                sleep(pause).await;
                backend(stack, which).signal("CONT")?;
            }
            Kind::RedisKilled => {
                if let Some(group) = &mut stack.group {
                    let which = self.rng.usize(..3);
                    let failure = if self.rng.bool() { Failure::Hangs } else { Failure::Killed };
                    group.fail_over(which, failure)?;
                } else if let Some(redis) = &mut stack.redis {
                    redis.process.kill()?;
                    stack.start_redis()?;
                }
            }
            Kind::PartnerApi => {
                let fault = |rng: &mut Rng| {
                    let status = [500, 429, 503, 200][rng.usize(..4)];
                    Fault { status, retry_after: None, delay: Duration::from_millis(rng.u64(..100)) }
                };
                let faults: Vec<_> = (0..self.rng.usize(1..40)).map(|_| fault(&mut self.rng)).collect();
                simulator.world.fail_next(faults);
            }
            Kind::Application => {
                let fault = |rng: &mut Rng| {
                    let status = if rng.bool() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                    (status, Duration::from_millis(rng.u64(..200)))
                };
                let faults: Vec<_> = (0..self.rng.usize(1..40)).map(|_| fault(&mut self.rng)).collect();
                simulator.application.fail_next(faults);
            }
            Kind::FilterSwapped => {
                self.swaps += 1;
                let policy = json!({ "max_body_bytes": 10_000 + self.swaps });
                stack.publisher()?.publish(&stack.build(policy)?)?;
            }
            Kind::Network(path) => {
                let fault = path.fail(&stack.networks, &mut self.rng).await?;
                explains = path.explains(fault);
                what = format!("{} {}", kind.as_str(), fault.as_str());
                *self.network.entry((path, fault.as_str())).or_default() += 1;
            }
            Kind::ClockJumped => {
                let clock = stack.clocks.get(which).context("the backends have no clocks of their own")?;
                clock.set(JUMPS[self.rng.usize(..JUMPS.len())])?;
            }
        }
        *self.counts.entry(kind).or_default() += 1;
        self.history.record(what, began, explains);
        sleep(Duration::from_millis(self.rng.u64(100..800))).await;
        Ok(())
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self, stack: &mut Stack, simulator: &Simulator) -> Result<()> {
        simulator.world.heal();
        simulator.application.heal();
        for which in 0..=stack.replicas.len() {
            backend(stack, which).signal("CONT")?;
        }
        for clock in &stack.clocks {
            clock.set(0)?;
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> BTreeMap<Kind, usize> {
        self.counts.clone()
    }

    pub(super) fn network_counts(&self) -> BTreeMap<(Path, &'static str), usize> {
        self.network.clone()
    }

    /// All faults so far.
    pub(super) fn history(&self) -> &History {
        &self.history
    }
}

fn backend(stack: &mut Stack, which: usize) -> &mut Process {
    match which {
        0 => &mut stack.backend,
        other => &mut stack.replicas[other - 1],
    }
}
