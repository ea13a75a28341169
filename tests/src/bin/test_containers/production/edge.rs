//! Envoy, restarted with its drain.

use anyhow::{Result, ensure};
use harness::{
    containers::{Production, Steps},
    simulator::sender::Answer,
};

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let restart = async {
        let report = outside
            .under_load("envoy", async {
                project.compose(&["restart", "envoy"]).await?;
                project.healthy(&["envoy"]).await
            })
            .await?;
        let is_refused = |answer: &Answer| *answer == Answer::Unavailable;
        let rejected: Vec<_> = report.undeserved.iter().filter(|(_, answer)| !is_refused(answer)).collect();
        ensure!(rejected.is_empty(), "{rejected:?}");
        outside.all_delivered(project, &report).await?;
        // Without a second Envoy, connections are refused until the new one listens.
        Ok(format!("{} of {} events found no Envoy", report.undeserved.len(), report.sent))
    };
    steps.step("Envoy is drained and restarted", restart).await?;

    let unchanged = async {
        let command = "docker compose up -d --build --no-deps envoy";
        project.shown("docs/OPERATIONS.md", command).await?;
        project.healthy(&["envoy"]).await
    };
    steps.step("an unchanged Envoy is not restarted", outside.planned(project, "unchanged", unchanged)).await?;
    Ok(())
}
