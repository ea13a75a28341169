//! The backends: more and fewer, killed, and recreated from a new image.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::containers::{Container, Production, Project, Steps, base_images::DEBIAN_IMAGE};

const PAGE: &str = "docs/OPERATIONS.md";

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let three = scale(project, 3);
    steps.step("the backend is scaled to three", outside.planned(project, "three", three)).await?;

    let kill = async {
        let killed = project.containers("backend").await?.pop().context("there are three backends")?;
        killed.signal("KILL").await?;
        scale(project, 3).await
    };
    steps.step("one of three backends is killed and started again", outside.unplanned(project, "one", kill)).await?;

    let renewed = async { recreate(project, "a second image", 3).await };
    steps.step("three backends are recreated from a new image", outside.planned(project, "new", renewed)).await?;

    let back = scale(project, 1);
    steps.step("the backend is scaled back to one", outside.planned(project, "back", back)).await?;

    let restart = async {
        project.compose(&["restart", "backend"]).await?;
        project.healthy(&["backend"]).await
    };
    steps.step("the only backend is restarted", outside.planned(project, "restart", restart)).await?;

    let crash = async {
        let backend = project.container("backend").await?;
        crash(project, &backend).await?;
        // The engine starts it again by itself.
        backend.healthy(Duration::from_secs(30)).await
    };
    steps.step("the only backend crashes", outside.unplanned(project, "crash", crash)).await?;

    let kill = async {
        project.compose(&["kill", "backend"]).await?;
        project.compose(&["up", "-d", "--no-deps", "backend"]).await?;
        project.healthy(&["backend"]).await
    };
    steps.step("the only backend is killed and started again", outside.unplanned(project, "killed", kill)).await?;

    let renewed = async { recreate(project, "a third image", 1).await };
    steps.step("the only backend is recreated from a new image", outside.planned(project, "newer", renewed)).await?;
    Ok(())
}

async fn scale(project: &Project, backends: usize) -> Result<()> {
    let count = format!("backend={backends}");
    project.compose(&["up", "-d", "--no-deps", "--scale", &count, "backend"]).await?;
    project.healthy(&["backend"]).await?;
    let running = project.containers("backend").await?.len();
    ensure!(running == backends, "there are {running} backends instead of {backends}");
    Ok(())
}

/// Builds an image that differs in what it is called, and replaces the backends by its containers.
async fn recreate(project: &Project, what: &str, backends: usize) -> Result<()> {
    let before = images(project).await?;
    project.edit("Dockerfile", "FROM base AS backend\n", &format!("FROM base AS backend\nLABEL test=\"{what}\"\n"))?;
    // With several backends, Compose must be told how many.
    let several = format!("docker compose up -d --build --no-deps --scale backend={backends} backend");
    let one = "docker compose up -d --build --no-deps backend";
    project.shown(PAGE, if backends == 1 { one } else { &several }).await?;
    project.healthy(&["backend"]).await?;
    let after = images(project).await?;
    ensure!(after.len() == backends && after.iter().all(|image| !before.contains(image)), "{before:?}, {after:?}");
    project.edit("Dockerfile", &format!("LABEL test=\"{what}\"\n"), "")
}

async fn images(project: &Project) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for container in project.containers("backend").await? {
        images.push(container.image().await?);
    }
    Ok(images)
}

/// Kills the process, not the container: for the engine, the container has crashed.
async fn crash(project: &Project, container: &Container) -> Result<()> {
    let kill = format!("kill -9 {}", container.pid().await?);
    let command = ["run", "--rm", "--pid=host", "--user=0", DEBIAN_IMAGE, "sh", "-c", &kill];
    project.docker().run(&command).await.map(drop)
}
