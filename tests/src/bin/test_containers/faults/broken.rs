//! A backend that is broken on purpose: the checker must notice.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use harness::{
    chaos::{Explains, Violation},
    containers::{Network, Project, Steps},
};

use super::{OVERRIDE, SETTINGS, cut, scale, trial::Trial};

/// The command in the Dockerfile.
const BUILD: &str = "cargo build --frozen --release --package backend";
/// Settings of the broken backends, after those of the others. The lease is short so that the test
/// is, but longer than a backend waits for Redis (3 s): one that gets no answer before its lease has
/// expired gives it up, even without fencing.
const BROKEN: &str = "      BACKEND_MUTATION: fencing\n      BACKEND__WORKER__LEASE_MS: 5000\n";
const LEASE: Duration = Duration::from_secs(5);
/// How long to wait for events that may never be handled.
const PATIENCE: Duration = Duration::from_secs(5);

/// Replaces the backends by ones without fencing: after the fault, two backends work on the same
/// partitions.
pub(super) async fn run(steps: &mut Steps, project: &Project, network: &Network, trial: &mut Trial<'_>) -> Result<()> {
    let build = async {
        let mutated = format!("{BUILD} --features mutations --bin backend-mutated");
        project.edit("Dockerfile", &format!("{BUILD} --bin backend"), &mutated)?;
        project.edit("Dockerfile", "/src/target/release/backend /", "/src/target/release/backend-mutated /")?;
        fs::write(project.folder.join(OVERRIDE), format!("{SETTINGS}{BROKEN}"))?;
        project.compose(&["build", "backend"]).await?;
        Ok("")
    };
    steps.step("broken on purpose: build backends without fencing", build).await?;
    let noticed = async {
        scale(project).await?;
        (trial.lease, trial.patience) = (LEASE, PATIENCE);
        let fault = cut::off_from_redis(network, project);
        trial.observe("broken", Explains::AnotherDelivery, fault).await?;
        let violations = trial.violations().await?;
        let twice = violations.iter().find(|violation| matches!(violation, Violation::Twice(_)));
        let twice = twice.with_context(|| format!("the checker did not notice: {violations:?}"))?;
        Ok(format!("{} broken promises, such as: {twice}", violations.len()))
    };
    steps.step("broken on purpose, and noticed: backends without fencing", noticed).await?;
    Ok(())
}
