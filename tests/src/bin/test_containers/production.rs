//! Every operation of production, while a sender that never retries posts 50 events per second.

use anyhow::{Result, ensure};
use harness::containers::{Production, Session, hardening::ensure_hardened};

mod added;
mod backend;
mod edge;
mod filter;
pub(crate) mod kept;
mod looking_after;
mod mounts;
mod noticed;
mod redis;

pub(crate) async fn run(session: &mut Session) -> Result<()> {
    let production = Production::prepare(session, "production").await?;
    let steps = &mut session.steps;
    steps.step("production: a missing `.env` is explained", unconfigured(&production)).await?;
    steps
        .step("production: build, start, and accept the first event", async {
            production.up().await?;
            production.outside.planned(&production.project, "first", async { Ok(()) }).await
        })
        .await?;
    steps.step("production: sizes of the images", sizes(&production)).await?;
    steps
        .step("production: every container is hardened", async {
            ensure_hardened(&production.project, &["filter", "envoy", "backend", "redis"]).await?;
            Ok("")
        })
        .await?;
    mounts::run(steps, &production).await?;
    filter::run(steps, &production).await?;
    backend::run(steps, &production).await?;
    redis::run(steps, &production).await?;
    looking_after::run(steps, &production).await?;
    added::run(steps, &production).await?;
    edge::run(steps, &production).await?;
    kept::run(steps, &production).await?;
    noticed::run(steps, &production).await
}

/// The size of each image.
async fn sizes(production: &Production) -> Result<String> {
    let project = &production.project;
    let mut sizes = Vec::new();
    for service in ["filter", "envoy", "backend"] {
        let image = project.container(service).await?.image().await?;
        let bytes: u64 = project.docker().run(&["image", "inspect", "--format", "{{.Size}}", &image]).await?.parse()?;
        sizes.push(format!("{service} {} MB", bytes / 1_000_000));
    }
    Ok(sizes.join(", "))
}

/// Without `.env`, Compose names what is missing, and says how to make a token.
async fn unconfigured(production: &Production) -> Result<String> {
    let project = &production.project;
    let result = project.shell("mv .env hidden.env; trap 'mv hidden.env .env' EXIT; docker compose config").await;
    let Err(error) = result else { anyhow::bail!("`docker compose config` accepts a missing token") };
    let message = format!("{error:#}");
    // Which of the missing variables is named first is up to Compose.
    ensure!(message.contains("in .env"), "the error does not say what to set: {message}");
    Ok(String::new())
}
