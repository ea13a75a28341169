//! The backends that a fault does not hit, and the partitions on which they work.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{
    containers::{Container, Project},
    keys::PARTITIONS,
    metrics::Metrics,
    simulator::sender::client,
};
use tokio::time::{Instant, sleep};

/// How long the backends may take to share the partitions anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// All backends but one.
pub(super) struct Others(Vec<Container>);

impl Others {
    /// Waits until `one` works on partitions, so that a fault of it matters.
    pub(super) async fn than(project: &Project, one: &Container) -> Result<Self> {
        let mut others = project.containers("backend").await?;
        others.retain(|backend| backend.id != one.id);
        let others = Self(others);
        others.wait_until(|owned| owned < PARTITIONS).await?;
        Ok(others)
    }

    /// Waits until they hold the leases of all partitions, and returns how long that took.
    pub(super) async fn take_over(&self) -> Result<Duration> {
        let began = Instant::now();
        self.wait_until(|owned| owned == PARTITIONS).await?;
        Ok(began.elapsed())
    }

    /// Waits for a number of partitions whose leases they hold.
    async fn wait_until(&self, condition: impl Fn(u32) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut owned = 0;
            for backend in &self.0 {
                let url = format!("http://{}:9090/metrics", backend.address().await?);
                let metrics = Metrics::parse(&client().get(url).send().await?.text().await?);
                owned += u32::try_from(metrics.sum("truenroll_backend_partitions_owned", &[]))?;
            }
            if condition(owned) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the other backends have {owned} of {PARTITIONS} partitions");
            sleep(Duration::from_millis(100)).await;
        }
    }
}
