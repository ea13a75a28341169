//! Deployments that are broken on purpose: the steps above must notice.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::containers::{Production, Steps};

use super::kept;

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    steps
        .step("broken on purpose, and noticed: an Envoy that does not retry", async {
            project.edit("envoy/bootstrap.yaml", "num_retries: 1000", "num_retries: 0")?;
            project.compose(&["up", "-d", "--no-deps", "--build", "--force-recreate", "envoy"]).await?;
            project.healthy(&["envoy"]).await?;
            let restart = async {
                project.compose(&["restart", "backend"]).await?;
                project.healthy(&["backend"]).await
            };
            fails(outside.planned(project, "unretried", restart).await, "were not accepted")
        })
        .await?;
    steps
        .step("broken on purpose, and noticed: the volume of Redis is deleted", async {
            let report = kept::stored_and_waiting(production, "deleted").await?;
            project.compose(&["down", "--volumes"]).await?;
            production.up().await?;
            kept::resume(production).await?;
            let judged = outside.all_delivered_within(project, &report, Duration::from_secs(5)).await;
            fails(judged.map(|()| String::new()), "were not delivered")
        })
        .await?;
    Ok(())
}

/// Checks that a step has failed, and for this reason.
fn fails(judged: Result<String>, reason: &str) -> Result<String> {
    let error = match judged {
        Ok(passed) => bail!("the broken deployment passed: {passed}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(error.contains(reason), "the broken deployment failed for another reason: {error}");
    error.lines().next().map(str::to_owned).context("the error says something")
}
