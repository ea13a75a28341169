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
        // Without a second Envoy, connections are refused until the new one listens. But a request on an
        // open connection must be answered, and not with 503.
        let cut_off: Vec<_> = report.undeserved.iter().filter(|(_, answer)| *answer != Answer::NoConnection).collect();
        ensure!(cut_off.is_empty(), "requests were cut off or rejected: {cut_off:?}");
        outside.all_delivered(project, &report).await?;
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
