//! The commands of docs/OPERATIONS.md for dead letters, checks, backup and reconciliation.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    containers::{Production, Steps, pages},
    simulator::sender::Answer,
};
use tokio::time::{Instant, sleep};

const PAGE: &str = "docs/OPERATIONS.md";

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    steps.step("a dead letter is listed and replayed", replayed(production)).await?;

    for block in pages::blocks(PAGE)? {
        if block.section == "Checking an installation" {
            steps.step(&format!("{PAGE}: doctor"), doctor(production, &block.text)).await?;
        }
        // The restore needs everything to be stopped: see `walkthrough`.
        if block.section == "Backup and restore" && !block.text.contains("docker compose stop") {
            let name = if block.text.contains("reconcile") { "reconcile" } else { "backup" };
            let run = async { project.shell(&block.text).await.map(drop) };
            steps.step(&format!("{PAGE}: {name}"), outside.planned(project, name, run)).await?;
        }
    }
    let copies = project.shell("ls -d backups/*Z/appendonly.aof.manifest").await?;
    ensure!(copies.lines().count() == 1, "the backup did not leave one copy: {copies}");

    let formats = async {
        for block in pages::blocks(PAGE)?.iter().filter(|block| block.section == "Formats") {
            project.shell(&block.text).await?;
        }
        Ok("")
    };
    steps.step("the format of a partition is copied to another one", formats).await?;

    steps.step("doctor examines an installation without a running backend", stopped(production)).await?;

    // `docker compose run` works while no backend does.
    let without = async {
        project.shown(PAGE, "docker compose exec backend backend dead").await?;
        project.shown(PAGE, "docker compose run --rm --no-deps backend backend dead").await?;
        project.shell("docker compose run --rm --no-deps filter guardctl token").await?;
        Ok("")
    };
    steps.step("commands in containers of their own", without).await?;
    Ok(())
}

async fn doctor(Production { project, .. }: &Production, commands: &str) -> Result<String> {
    // Exits with 1 if a check failed.
    let printed = project.shell(commands).await?;
    for check in ["sink-test", "envoy-proof", "authenticity", "spool"] {
        let passes = |line: &str| line.contains(&format!("\"name\":\"{check}\",\"status\":\"pass\""));
        ensure!(printed.lines().any(passes), "{check} does not pass: {printed}");
    }
    Ok(String::new())
}

async fn stopped(Production { project, .. }: &Production) -> Result<String> {
    project.compose(&["stop", "backend"]).await?;
    // Exits with 1, since no backend is at work.
    let doctor = project.shown(PAGE, "docker compose run --rm --no-deps backend backend doctor").await;
    project.compose(&["start", "backend"]).await?;
    project.healthy(&["backend"]).await?;
    let Err(error) = doctor else { bail!("`backend doctor` does not notice that no backend is at work") };
    let printed = format!("{error:#}");
    for expected in ["no backend is at work", "each event is on disk"] {
        ensure!(printed.contains(expected), "`backend doctor` does not say {expected:?}: {printed}");
    }
    Ok(String::new())
}

async fn replayed(production: &Production) -> Result<String> {
    let Production { project, outside } = production;
    let world = &outside.simulator.world;
    world.upload("dead", None, &[Feature::Translation]);
    let event = world.finish("dead", Feature::Translation, Stage::Completed, "2025-06-22T10:30:00Z");
    let event = event.context("the stage finishes")?;
    outside.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
    let answer = outside.sender.send(&event).await;
    ensure!(answer == Answer::Accepted(event.key.clone()), "{answer:?}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !project.exec("backend", &["backend", "dead"]).await?.contains(&event.key) {
        ensure!(Instant::now() < deadline, "the event does not become a dead letter");
        sleep(Duration::from_millis(200)).await;
    }
    let block = pages::blocks(PAGE)?.into_iter().find(|block| block.text.contains("backend replay"));
    let printed = project.shell(&block.context("the page shows no `replay`")?.text).await?;
    ensure!(printed.contains(&event.key), "the dead letter is not listed: {printed}");
    while !outside.simulator.application.deliveries().iter().any(|delivery| delivery.key == event.key) {
        ensure!(Instant::now() < deadline, "the replayed event is not delivered");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(String::new())
}
