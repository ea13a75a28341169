//! The operations that are measured.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use harness::{
    dns::{DnsServer, Reply},
    simulator::Simulator,
    stack::{DrainedEnvoy, Options, Stack},
};
use serde_json::json;
use tokio::time::sleep;

/// Something that an operator does while events arrive, or a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// No operation, for comparison.
    None,
    /// A changed policy is published ten times. Each publication loads a new build of the filter.
    Publish,
    /// The only backend is stopped with SIGTERM, and started again after it has ended.
    RestartBackend,
    /// The same, while the application takes up to 15 seconds per outcome.
    RestartBusyBackend,
    /// The only backend is killed and started again.
    KillBackend,
    /// One of two backends is stopped with SIGTERM, and started again after it has ended.
    RestartOneOfTwo,
    /// The only backend is recreated: its name does not resolve for five seconds, and then resolves
    /// to another address.
    RecreateBackend,
    /// Each of two Envoys behind a load balancer is stopped with SIGTERM, drains, and is started
    /// again.
    RestartEnvoys,
    /// Redis is stopped with SIGTERM, and started again on its append-only file 15 seconds later.
    RestartRedis,
}

/// The longest time that a slow application takes for an outcome.
const BUSY: Duration = Duration::from_secs(15);
/// How long the name of a recreated backend does not resolve.
const NAME_UNKNOWN: Duration = Duration::from_secs(5);
/// The new address of that backend.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long Redis is down.
const REDIS_AWAY: Duration = Duration::from_secs(15);
/// How long an Envoy may take to drain.
const DRAIN_SECONDS: u64 = 20;
/// How long a program may take to stop.
const PATIENCE: Duration = Duration::from_secs(30);

impl Operation {
    pub(crate) const ALL: [Self; 9] = [
        Self::None,
        Self::Publish,
        Self::RestartBackend,
        Self::RestartBusyBackend,
        Self::KillBackend,
        Self::RestartOneOfTwo,
        Self::RecreateBackend,
        Self::RestartEnvoys,
        Self::RestartRedis,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Publish => "ten publications of the filter",
            Self::RestartBackend => "restart of the only backend",
            Self::RestartBusyBackend => {
                "restart of the only backend, while the application takes up to 15 s per outcome"
            }
            Self::KillBackend => "kill and restart of the only backend",
            Self::RestartOneOfTwo => "restart of one of two backends",
            Self::RecreateBackend => {
                "recreation of the only backend at another address, after 5 s in which its name does not resolve"
            }
            Self::RestartEnvoys => "restart of two Envoys behind a load balancer, one after the other",
            Self::RestartRedis => "restart of Redis, down for 15 s",
        }
    }

    /// The stack for the operation. Its Envoy finds the backend by a name that `dns` resolves.
    pub(crate) fn stack(self, simulator: &Simulator, dns: &DnsServer) -> Result<Stack> {
        let pace = if self == Self::RestartBusyBackend { BUSY } else { Duration::ZERO };
        simulator.application.set_pace(pace);
        let bootstrap = vec![
            ("backend_address", "backend.test".to_owned()),
            ("dns_resolver_address", "127.0.0.1".to_owned()),
            ("dns_resolver_port", dns.port().to_string()),
        ];
        let replicas = usize::from(self == Self::RestartOneOfTwo);
        Stack::start(Options { replicas, enable: vec!["dns_resolver"], bootstrap, ..Options::new(simulator.url()) })
    }

    /// The Envoys that the events pass instead of the stack's own; empty for most operations.
    pub(crate) fn envoys(self, stack: &Stack) -> Result<Vec<DrainedEnvoy>> {
        let names: &[&str] = if self == Self::RestartEnvoys { &["one", "two"] } else { &[] };
        names.iter().map(|name| DrainedEnvoy::start(stack, name, DRAIN_SECONDS)).collect()
    }

    pub(crate) async fn perform(self, stack: &mut Stack, dns: &DnsServer, envoys: &mut [DrainedEnvoy]) -> Result<()> {
        match self {
            Self::None => sleep(PATIENCE / 6).await,
            Self::Publish => {
                for number in 0..10 {
                    let build = stack.build(json!({ "max_body_bytes": 10_000 + number }))?;
                    let publisher = stack.publisher()?;
                    tokio::task::spawn_blocking(move || publisher.publish(&build)).await??;
                }
            }
            Self::RestartBackend | Self::RestartBusyBackend => {
                stack.backend.stop(PATIENCE)?;
                stack.start_backend()?;
            }
            Self::KillBackend => {
                stack.backend.kill()?;
                stack.start_backend()?;
            }
            Self::RestartOneOfTwo => {
                stack.replicas[0].stop(PATIENCE)?;
                stack.start_replica(0)?;
            }
            Self::RecreateBackend => {
                stack.backend.stop(PATIENCE)?;
                dns.set(Reply::NxDomain);
                sleep(NAME_UNKNOWN).await;
                let ingest = stack.ingest();
                let (_, port) = ingest.rsplit_once(':').context("the ingest has a port")?;
                stack.set_backend("ingest.listen", format!("{ELSEWHERE}:{port}"));
                stack.start_backend()?;
                dns.set(Reply::Addresses(vec![ELSEWHERE]));
            }
            Self::RestartEnvoys => {
                for envoy in envoys {
                    envoy.process.signal("TERM")?;
                    envoy.ends_well(PATIENCE)?;
                    envoy.start_again()?;
                }
            }
            Self::RestartRedis => {
                if let Some(redis) = &mut stack.redis {
                    redis.process.stop(PATIENCE)?;
                }
                sleep(REDIS_AWAY).await;
                stack.start_redis()?;
            }
        }
        Ok(())
    }
}
