//! The faults of the network. Each hits one backend.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::containers::{Container, Network, Project};
use tokio::time::{Instant, sleep};

use super::{others::Others, scale};

/// How long a dependency is cut off: longer than a call may take, and longer than the circuit
/// breaker stays open.
const CUT: Duration = Duration::from_secs(12);
/// How long a backend has vanished before the engine knows.
const UNNOTICED: Duration = Duration::from_secs(4);

/// Takes a backend out of the network of Redis until the others have its partitions.
pub(super) async fn without_network(network: &Network, project: &Project) -> Result<String> {
    let (backend, others) = one_and_others(project).await?;
    network.disconnect(&backend, "store").await?;
    let after = others.take_over().await?;
    network.connect(&backend, "backend", "store").await?;
    Ok(taken_over(after))
}

/// Drops the packets between a backend and Redis until the others have its partitions.
pub(super) async fn off_from_redis(network: &Network, project: &Project) -> Result<String> {
    let (backend, others) = one_and_others(project).await?;
    network.cut_off(&backend, project.redis().await?).await?;
    let after = others.take_over().await?;
    network.heal(&backend).await?;
    Ok(taken_over(after))
}

/// Drops the packets between a backend and a dependency that others do not replace.
pub(super) async fn off(network: &Network, project: &Project, dependency: SocketAddr) -> Result<String> {
    let (backend, _) = one_and_others(project).await?;
    network.cut_off(&backend, dependency).await?;
    sleep(CUT).await;
    let dropped = network.heal(&backend).await?;
    ensure!(dropped > 0, "the fault hit nothing: no packet passed between the backend and {dependency}");
    Ok(format!("{dropped} packets dropped"))
}

/// Makes a backend vanish with its host, and starts it again when the others have its partitions.
pub(super) async fn vanished(network: &Network, project: &Project) -> Result<String> {
    let (backend, others) = one_and_others(project).await?;
    let began = Instant::now();
    network.isolate(&backend).await?;
    sleep(UNNOTICED).await;
    // The kernel closes its connections, but nobody hears of it.
    backend.signal("KILL").await?;
    others.take_over().await?;
    let after = began.elapsed();
    scale(project).await?;
    Ok(taken_over(after))
}

/// Chooses a backend that works on partitions.
async fn one_and_others(project: &Project) -> Result<(Container, Others)> {
    let backend = project.containers("backend").await?.pop().context("there is no backend")?;
    let others = Others::than(project, &backend).await?;
    Ok((backend, others))
}

fn taken_over(after: Duration) -> String {
    format!("partitions taken over after {:.1} s", after.as_secs_f64())
}
