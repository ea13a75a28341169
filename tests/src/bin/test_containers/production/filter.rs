//! The filter: a new one, a changed policy, a rollback, and one that is broken.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    containers::{Production, Steps},
    simulator::sender::client,
};

const PUBLISH: &str = "docker compose up -d --build filter";
const PAGE: &str = "docs/OPERATIONS.md";
/// How long a publication may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// A body whose size the shipped policy allows and the changed one does not.
const BODY_BYTES: usize = 2_000;

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let first = production.build().await?;
    let swap = async {
        project.edit("filter/src/request.rs", "\"Webhook-Signature\"", "\"Webhook-Signatures\"")?;
        publish(production, 0).await.map(drop)
    };
    steps.step("a new filter is swapped in", outside.planned(project, "swap", swap)).await?;
    let second = production.build().await?;
    ensure!(first != second, "Envoy still serves {first}");

    ensure!(too_large(production).await? == 400, "the shipped policy allows {BODY_BYTES} bytes");
    let policy = async {
        project.edit("envoy/policy.toml", "max_body_bytes = 16384", "max_body_bytes = 1024")?;
        publish(production, 0).await.map(drop)
    };
    steps.step("a changed policy is published", outside.planned(project, "policy", policy)).await?;
    ensure!(too_large(production).await? == 413, "the changed policy is not in force");

    let rollback = async {
        project.shown(PAGE, "docker compose run --rm filter guardctl rollback").await?;
        Ok(())
    };
    steps.step("the filter is rolled back", outside.planned(project, "rollback", rollback)).await?;
    ensure!(production.build().await? == second, "Envoy does not serve {second} after the rollback");
    ensure!(too_large(production).await? == 400, "the changed policy is still in force");

    let source = project.folder.join("filter/src/lib.rs");
    let good = fs::read_to_string(&source)?;
    let broken = async {
        fs::copy(project.folder.join("tests/faulty/src/lib.rs"), &source)?;
        let said = publish(production, 1).await?;
        ensure!(said.contains("golden vector") || said.contains("rehears"), "the rejection is not explained: {said}");
        Ok(())
    };
    steps.step("a broken filter is rejected", outside.planned(project, "broken", broken)).await?;
    ensure!(production.build().await? == second, "Envoy does not serve {second} after the rejection");
    fs::write(&source, good)?;
    // The image is still the broken one.
    project.compose(&["build", "filter"]).await.map(drop)
}

/// Publishes what the folder contains, and checks the exit code. Returns what the publication said.
async fn publish(production: &Production, expected: i32) -> Result<String> {
    let project = &production.project;
    project.shown(PAGE, PUBLISH).await?;
    let container = project.container("filter").await?;
    let code = container.exit_code(PATIENCE).await.context("the publication does not end")?;
    project.shown(PAGE, "docker compose logs filter").await?;
    let said = container.logs().await?;
    ensure!(code == expected, "the publication ended with {code}:\n{said}");
    Ok(said)
}

/// Sends a body that is larger than the test's policy allows, and returns the status of the answer.
async fn too_large(production: &Production) -> Result<u16> {
    let request = client().post(&production.outside.webhook);
    let answer = request.header("content-type", "application/json").body("x".repeat(BODY_BYTES)).send().await?;
    Ok(answer.status().as_u16())
}
