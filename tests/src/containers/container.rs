//! One container.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::{
    command::{self, last_lines},
    docker::{Docker, QUICK},
};

/// A container of a project, running or not.
#[derive(Debug, Clone)]
pub struct Container {
    docker: Docker,
    /// The ID.
    pub id: String,
}

impl Container {
    pub(super) fn new(docker: &Docker, id: String) -> Self {
        Self { docker: docker.clone(), id }
    }

    /// Reads a property, written as a Go template.
    ///
    /// # Errors
    /// If the container is gone.
    pub async fn inspect(&self, template: &str) -> Result<String> {
        self.docker.run(&["inspect", "--format", template, &self.id]).await
    }

    /// The ID of the image.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn image(&self) -> Result<String> {
        self.inspect("{{.Image}}").await
    }

    /// The process ID of its first process, as the host counts.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn pid(&self) -> Result<u32> {
        match self.inspect("{{.State.Pid}}").await?.parse()? {
            0 => bail!("container {} does not run", self.id),
            pid => Ok(pid),
        }
    }

    /// Its address in its first network.
    ///
    /// # Errors
    /// If it is in no network.
    pub async fn address(&self) -> Result<IpAddr> {
        let addresses = self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").await?;
        let first = addresses.split_whitespace().next();
        Ok(first.with_context(|| format!("container {} is in no network", self.id))?.parse()?)
    }

    /// Everything that it has written.
    ///
    /// # Errors
    /// If the container is gone.
    pub async fn logs(&self) -> Result<String> {
        // The shell joins both streams in one pipe.
        let mut command = self.docker.command("sh");
        command.args(["-c", "exec docker logs \"$1\" 2>&1", "sh", &self.id]);
        command::run(&mut command, QUICK).await
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        self.docker.run(&["kill", "--signal", signal, &self.id]).await.map(drop)
    }

    /// Waits until the container has ended, and returns its exit code.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn exit_code(&self, patience: Duration) -> Result<i32> {
        Ok(self.docker.run_within(patience, &["wait", &self.id]).await?.parse()?)
    }

    /// Waits until the container runs and its health check, if it has one, has succeeded.
    ///
    /// # Errors
    /// If that takes longer than `patience`; with the end of its log.
    pub async fn healthy(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let template = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}";
        loop {
            let state = self.inspect(template).await?;
            if matches!(state.trim(), "running healthy" | "running") {
                return Ok(());
            }
            if Instant::now() > deadline {
                let last = last_lines(&self.logs().await?, 20);
                bail!("container {} is {state:?} after {patience:?}:\n{last}", self.id);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
