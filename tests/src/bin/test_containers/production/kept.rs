//! What `docker compose down` keeps.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{
    containers::Steps,
    containers::{Production, outside},
    simulator::steady::{Report, Steady},
};
use tokio::time::sleep;

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    steps
        .step("everything is taken down and started again", async {
            let report = stored_and_waiting(production, "kept").await?;
            production.project.shell("docker compose down").await?;
            production.up().await?;
            resume(production).await?;
            production.outside.all_delivered(&production.project, &report).await?;
            Ok(outside::described(&report))
        })
        .await?;
    Ok(())
}

/// Sends events of which some are stored but not handled, because their feature is paused.
pub(crate) async fn stored_and_waiting(production: &Production, name: &str) -> Result<Report> {
    let Production { project, outside } = production;
    project.exec("backend", &["backend", "pause", "extraction"]).await?;
    let steady = Steady::start(&outside.simulator.world, &outside.sender, name, outside::RATE);
    sleep(Duration::from_secs(2)).await;
    let report = steady.stop().await?;
    outside::all_accepted(&report)?;
    let delivered = outside.simulator.application.deliveries();
    let waits = |key: &String| key.starts_with("case.extraction.") && !delivered.iter().any(|other| other.key == *key);
    ensure!(report.accepted.iter().any(waits), "no event waits");
    Ok(report)
}

pub(crate) async fn resume(production: &Production) -> Result<()> {
    production.project.exec("backend", &["backend", "resume", "extraction"]).await.map(drop)
}
