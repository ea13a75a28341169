//! Checks an installation from end to end. The checks are data: the command line and other pages
//! decide how to show them.
//!
//! The checks run concurrently, each with a time limit of its own, and change nothing. Only the
//! check `sink-test` sends the application something that it has to answer, and only if it is asked
//! for.

use std::{sync::Arc, time::Duration};

use clap::ValueEnum as _;
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;

mod authenticity;
mod clock;
mod configuration;
mod envoy;
mod examined;
mod finding;
mod name;
mod partner_api;
mod servers;
mod sink;
mod spool;
mod work;

pub use finding::{Finding, Status};
pub use name::Name;
pub use work::judge as judge_work;

use examined::Examined;

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: Name,
    /// The result.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Whether to send the application a request that it can recognize as a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkTest {
    /// Leave out the check `sink-test`.
    Omitted,
    /// Send one to each of the application's URLs.
    Sent,
}

/// Runs all checks of the installation with this configuration, and returns them in the order of
/// [`Name`].
pub async fn run(config: Config, sink_test: SinkTest) -> Vec<Check> {
    let omits_test = sink_test == SinkTest::Omitted;
    let examined = Arc::new(Examined::new(config));
    let names = Name::value_variants().iter().copied().filter(|&name| name != Name::SinkTest || !omits_test);
    let tasks: Vec<_> = names
        .map(|name| {
            let examined = Arc::clone(&examined);
            (name, AbortOnDropHandle::new(tokio::spawn(async move { limited(name, &examined).await })))
        })
        .collect();
    let mut checks = Vec::new();
    for (name, task) in tasks {
        let finding = task.await.unwrap_or_else(|_| {
            Finding::failure("the check itself failed", "report this as an error of truenroll-edge, with the log")
        });
        checks.push(Check { name, finding });
    }
    checks
}

/// The finding of a check, as an error if it ended early.
type Checked = Result<Finding, Finding>;

async fn limited(name: Name, examined: &Examined) -> Finding {
    let limit = name.time_limit();
    let checked = timeout(limit, check(name, examined)).await.unwrap_or_else(|_| Err(too_slow(limit)));
    checked.unwrap_or_else(|finding| finding)
}

fn too_slow(limit: Duration) -> Finding {
    let found = format!("no answer within {} s", limit.as_secs());
    Finding::failure(found, "check the network and the load of the other side")
}

async fn check(name: Name, examined: &Examined) -> Checked {
    match name {
        Name::Configuration => Ok(configuration::check(&examined.config.settings)),
        Name::RedisReachable => servers::reachable(examined).await,
        Name::RedisVersion => servers::version(examined).await,
        Name::RedisLatency => servers::latency(examined).await,
        Name::RedisDurability => servers::durability(examined).await,
        Name::RedisEviction => servers::eviction(examined).await,
        Name::RedisMemory => servers::memory(examined).await,
        Name::RedisFormat => servers::format(examined).await,
        Name::PartnerApi => partner_api::access(examined).await,
        Name::PartnerApiPaging => partner_api::paging(examined).await,
        Name::Sink => sink::reachable(examined).await,
        Name::SinkSignature => Ok(sink::signature(&examined.config.sink)),
        Name::SinkTest => sink::test(examined).await,
        Name::EnvoyBuild => envoy::build(examined).await,
        Name::EnvoyProof => envoy::proof(examined).await,
        Name::Authenticity => authenticity::check(examined).await,
        Name::ClockRedis => clock::redis(examined).await,
        Name::ClockPartnerApi => clock::partner_api(examined).await,
        Name::Partitions => work::partitions(examined).await,
        Name::Backlog => work::backlog(examined).await,
        Name::DeadLetters => work::dead_letters(examined).await,
        Name::Spool => spool::check(&examined.config).await,
    }
}
