//! Redis, restarted and killed.

use anyhow::{Result, ensure};
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

    steps.step("Redis is not healthy while it loads its data", loading(project)).await?;
    Ok(())
}

/// Starts Redis so that it loads its data slowly.
async fn loading(project: &Project) -> Result<String> {
    let fill = "for key = 1, 20000 do redis.call('SET', 'filler:' .. key, key, 'EX', 60) end";
    project.exec("redis", &["redis-cli", "eval", fill, "0"]).await?;
    let slowly = "\"--key-load-delay\", \"200\", \"--maxmemory\",";
    project.edit("docker-compose.yml", "\"--maxmemory\",", slowly)?;
    project.compose(&["up", "-d", "--no-deps", "redis"]).await?;
    let redis = project.container("redis").await?;
    let mut times = 0;
    loop {
        let health = redis.inspect("{{.State.Health.Status}}").await?;
        // `redis-cli` fails while Redis does not listen yet.
        let answer = project.exec("redis", &["sh", "-c", "redis-cli ping || true"]).await?;
        if answer.trim() == "PONG" {
            break;
        }
        ensure!(health == "starting", "Redis is {health}, and answers: {answer}");
        times += 1;
    }
    ensure!(times > 0, "Redis had loaded its data before it was asked");
    project.edit("docker-compose.yml", slowly, "\"--maxmemory\",")?;
    up(project).await?;
    Ok(format!("asked {times} times while it was loading"))
}

async fn up(project: &Project) -> Result<()> {
    project.shown(PAGE, "docker compose up -d --no-deps redis").await?;
    project.healthy(&["redis", "backend"]).await
}
