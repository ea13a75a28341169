//! The backup and its restore, after Redis has lost everything.

use anyhow::{Context, Result};
use harness::containers::{Production, Steps, outside, pages, production::SERVICES};

use super::page::PAGE;
use crate::production::kept;

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let restored = async {
        let backup = block("docker cp")?;
        // Lacks the events that follow: the latest copy must be the one that is restored.
        project.shell(&backup).await?;
        let report = kept::stored_and_waiting(production, "restored").await?;
        project.shell(&backup).await?;
        project.compose(&["stop", "envoy", "backend"]).await?;
        project.exec("redis", &["redis-cli", "FLUSHALL"]).await?;
        project.shell(&block("docker compose stop")?).await?;
        project.healthy(&SERVICES).await?;
        kept::resume(production).await?;
        outside.all_delivered(project, &report).await?;
        Ok(outside::described(&report))
    };
    steps.step("walkthrough: what Redis has lost is restored", restored).await.map(drop)
}

/// The block of "Backup and restore" that contains a command.
fn block(command: &str) -> Result<String> {
    let is_it = |block: &pages::Block| block.section == "Backup and restore" && block.text.contains(command);
    let found = pages::blocks(PAGE)?.into_iter().find(is_it);
    Ok(found.with_context(|| format!("{PAGE} does not show `{command}`"))?.text)
}
