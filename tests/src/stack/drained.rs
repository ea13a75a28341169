//! A further Envoy of a stack, run by `guardctl run` as in production, which drains Envoy before it
//! ends.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{PATIENCE, Stack, programs::answers};
use crate::{
    process::{Process, free_port},
    tools,
};

/// An Envoy besides the stack's own, with the same filter and backend.
pub struct DrainedEnvoy {
    /// The process of `guardctl`, which runs Envoy.
    pub process: Process,
    /// The port that takes webhooks.
    pub edge: u16,
    /// The port of the admin interface.
    pub admin: u16,
    metrics: u16,
    config: PathBuf,
    drain_seconds: u64,
}

impl DrainedEnvoy {
    /// Starts an Envoy and waits until it is ready. Its files and its log are called `name`. A
    /// drain takes at most `drain_seconds`.
    ///
    /// # Errors
    /// If Envoy does not become ready in time; with the end of its log.
    pub fn start(stack: &Stack, name: &str, drain_seconds: u64) -> Result<Self> {
        let edge = free_port()?;
        let metrics = free_port()?;
        let admin = free_port()?;
        let bootstrap = fs::read_to_string(stack.folder().join("envoy.yaml"))?;
        let ports = [("edge_port", edge), ("metrics_port", metrics), ("admin_port", admin)];
        let bootstrap = ports.iter().fold(bootstrap, |bootstrap, (name, port)| set(&bootstrap, name, *port));
        let config = stack.folder().join(name).with_extension("yaml");
        fs::write(&config, bootstrap)?;
        let process = run(&config, admin, drain_seconds)?;
        let mut envoy = Self { process, edge, admin, metrics, config, drain_seconds };
        envoy.wait_until_ready()?;
        Ok(envoy)
    }

    /// Waits until Envoy has ended by itself.
    ///
    /// # Errors
    /// If it has not ended in time, or not with success; with its log.
    pub fn ends_well(&mut self, patience: Duration) -> Result<()> {
        let status = self.process.wait(patience)?;
        ensure!(status.is_some_and(|status| status.success()), "{status:?}\n{}", self.process.log());
        Ok(())
    }

    /// Starts Envoy again after it has ended, and waits until it is ready.
    ///
    /// # Errors
    /// If Envoy does not become ready in time; with the end of its log.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.config, self.admin, self.drain_seconds)?;
        self.wait_until_ready()
    }

    /// The URL that answers 200 while Envoy takes new connections.
    pub fn ready(&self) -> String {
        format!("http://127.0.0.1:{}/ready", self.metrics)
    }

    /// This Envoy as a target of a [`Balancer`](crate::balancer::Balancer).
    pub fn target(&self) -> (SocketAddr, String) {
        (SocketAddr::from(([127, 0, 0, 1], self.edge)), self.ready())
    }

    /// The URL that events are posted to.
    pub fn webhook(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks/truenroll", self.edge)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ready = self.ready();
        self.process.wait_until(PATIENCE, || answers(&ready))
    }
}

/// Replaces the value of one option in a rendered bootstrap.
fn set(bootstrap: &str, name: &str, value: u16) -> String {
    let mark = format!(" # set: {name}");
    let lines = bootstrap.lines().map(|line| match line.strip_suffix(&mark).and_then(|line| line.rsplit_once(": ")) {
        Some((key, old)) => format!("{key}: {value}{}{mark}\n", if old.ends_with(" }") { " }" } else { "" }),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn run(config: &Path, admin: u16, drain_seconds: u64) -> Result<Process> {
    let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[])?);
    command.args(["run", "--notice-seconds", "2", "--drain-seconds", &drain_seconds.to_string()]);
    command.arg("--admin").arg(format!("http://127.0.0.1:{admin}")).arg("--");
    // The kernel kills Envoy when guardctl ends, even if guardctl was killed.
    command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(tools::envoy()?).arg("-c").arg(config);
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    Process::start("guardctl", &mut command, &config.with_extension("log"))
}
