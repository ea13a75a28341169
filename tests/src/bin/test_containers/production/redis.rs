//! Redis, restarted and killed.

use anyhow::Result;
use harness::containers::{Production, Project, Steps};

const PAGE: &str = "docs/OPERATIONS.md";

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let restart = async {
        project.compose(&["restart", "redis"]).await?;
        project.healthy(&["redis", "backend"]).await
    };
    // A backend that has delivered an outcome but not completed the event delivers it again.
    steps.step("Redis is restarted", outside.unplanned(project, "redis", restart)).await?;

    let kill = async {
        project.compose(&["kill", "redis"]).await?;
        up(project).await
    };
    steps.step("Redis is killed and started again", outside.unplanned(project, "redis-killed", kill)).await?;
    Ok(())
}

async fn up(project: &Project) -> Result<()> {
    project.shown(PAGE, "docker compose up -d --no-deps redis").await?;
    project.healthy(&["redis", "backend"]).await
}
