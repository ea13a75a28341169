//! The operations.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use harness::{
    dns::{DnsServer, Reply},
    simulator::Simulator,
    stack::{DrainedEnvoy, Options, Stack},
};
use serde_json::json;
use tokio::time::sleep;

/// Something that an operator does while events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nothing, to compare with.
    None,
    /// The policy is changed ten times, which loads the filter anew.
    Publish,
    /// The only backend is told to stop, and started again once it has.
    RestartBackend,
    /// The same while the application takes fifteen seconds for each outcome.
    RestartBusyBackend,
    /// The only backend is killed, and started again.
    KillBackend,
    /// One of two backends is told to stop, and started again once it has.
    RestartOneOfTwo,
    /// The only backend is recreated: its name does not resolve for five seconds, and then names another address.
    RecreateBackend,
    /// Each of two Envoys behind a load balancer is told to stop, drains, and is started again.
    RestartEnvoys,
    /// Redis is told to stop, and started again on its append-only file after 15 seconds.
    RestartRedis,
}

/// How long a busy application takes for an outcome.
const BUSY: Duration = Duration::from_secs(15);
/// How long the name of a backend that is recreated does not resolve.
const NAME_UNKNOWN: Duration = Duration::from_secs(5);
/// Where that backend is then.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long Redis is away.
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
            Self::RestartBusyBackend => "restart of the only backend, the application takes 15 s",
            Self::KillBackend => "the only backend is killed and started again",
            Self::RestartOneOfTwo => "restart of one of two backends",
            Self::RecreateBackend => "the only backend is recreated at another address, its name unknown for 5 s",
            Self::RestartEnvoys => "restart of two Envoys behind a load balancer, one after the other",
            Self::RestartRedis => "restart of Redis, away for 15 s",
        }
    }

    /// The stack that the operation needs. Its Envoy finds the backend by a name that `dns` resolves.
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

    /// The Envoys that the events go through in place of the stack's own; none for most operations.
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
                stack.set_backend("BACKEND__INGEST__LISTEN", format!("{ELSEWHERE}:{port}"));
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
                    redis.stop(PATIENCE)?;
                }
                sleep(REDIS_AWAY).await;
                stack.start_redis()?;
            }
        }
        Ok(())
    }
}
