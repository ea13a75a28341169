//! Faults of the network between containers, while a sender that never retries posts events. At the
//! end, the checker of `cargo chaos` judges whether every promise was kept.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::Explains::{AnotherDelivery, Nothing},
    containers::{Network, Production, Project, Session},
};

mod broken;
mod cut;
mod others;
mod trial;

use trial::Trial;

/// How many backends run.
const BACKENDS: usize = 3;

/// Settings of the backends for this part: calls fail while a dependency is cut off, attempts are
/// soon repeated, and no event waits for other stages of its case.
const SETTINGS: &str = "\
services:
  backend:
    environment:
      BACKEND__PARTNER_API__TIMEOUT_MS: 4000
      BACKEND__SINK__TIMEOUT_MS: 4000
      BACKEND__WORKER__BACKOFF_CAP_MS: 2000
      BACKEND__HANDLER__WAIT_FOR_CASE_S: 0
";
/// Compose reads this file too.
const OVERRIDE: &str = "docker-compose.override.yml";

pub(crate) async fn run(session: &mut Session) -> Result<()> {
    let production = Production::prepare(session, "faults").await?;
    let Production { project, outside } = &production;
    fs::write(project.folder.join(OVERRIDE), SETTINGS)?;
    let steps = &mut session.steps;
    let mut prepared = None;
    let start = async {
        production.up().await?;
        scale(project).await?;
        prepared = Some(Network::prepare(project).await?);
        Ok("")
    };
    steps.step("faults: build, and start three backends", start).await?;
    let network = &prepared.context("the network is prepared")?;
    let mut trial = Trial::new(&production);

    let name = "a backend has no network to Redis";
    let fault = cut::without_network(network, project);
    steps.step(name, trial.endure("gone", AnotherDelivery, fault)).await?;

    let name = "a backend's packets to and from Redis are dropped";
    let fault = cut::off_from_redis(network, project);
    steps.step(name, trial.endure("redis", AnotherDelivery, fault)).await?;

    let name = "a backend's packets to and from the Partner API are dropped";
    let fault = cut::off(network, project, outside.partner_api);
    steps.step(name, trial.endure("api", Nothing, fault)).await?;

    let name = "a backend's packets to and from the application are dropped";
    let fault = cut::off(network, project, outside.application);
    steps.step(name, trial.endure("application", AnotherDelivery, fault)).await?;

    let name = "a backend vanishes, and is replaced";
    let fault = cut::vanished(network, project);
    steps.step(name, trial.endure("vanished", AnotherDelivery, fault)).await?;

    steps.step("faults: every promise was kept", trial.judge()).await?;
    broken::run(steps, project, network, &mut trial).await
}

/// Starts all backends, and waits until they are healthy.
async fn scale(project: &Project) -> Result<()> {
    let count = format!("backend={BACKENDS}");
    project.compose(&["up", "-d", "--no-deps", "--scale", &count, "backend"]).await?;
    project.healthy(&["backend"]).await?;
    let running = project.containers("backend").await?.len();
    ensure!(running == BACKENDS, "there are {running} backends instead of {BACKENDS}");
    Ok(())
}
