//! A Docker engine: one that answers, or one of this run.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    command::{last_lines, run},
    docker::QUICK,
};
use crate::tools::{self, say};

/// What an engine of this run takes. `debootstrap` makes the base images.
const PACKAGES: [&str; 4] = ["docker.io", "docker-compose", "debootstrap", "iptables"];
/// How long the engine may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that this run started. It is killed when dropped; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Engine {
    daemon: Child,
    /// The socket and the files of the running engine. The path of a socket must be short, so they
    /// are not below `target`.
    run: TempDir,
    data: PathBuf,
}

impl Engine {
    /// Returns `None` if an engine answers. Otherwise starts one with its data in `folder`, if this
    /// is a Debian system and the process runs as root; programs that are missing are installed.
    ///
    /// # Errors
    /// If no engine answers and none can be started; the error says what to install.
    pub async fn find(folder: &Path) -> Result<Option<Self>> {
        if let Some(docker) = tools::on_path("docker") {
            let version = run(Command::new(docker).args(["version", "--format", "{{.Server.Version}}"]), QUICK).await;
            if let Ok(version) = version {
                has_compose().await?;
                say(&format!("using the Docker engine that answers, version {}", version.trim()));
                return Ok(None);
            }
        }
        let missing = ["dockerd", "docker", "docker-compose", "debootstrap", "iptables"];
        if missing.iter().any(|program| tools::on_path(program).is_none()) {
            say(&format!("no Docker engine answers; installing {} with apt-get", PACKAGES.join(" ")));
            tools::apt_install(&PACKAGES).context(
                "no Docker engine answers: start one that this user may use (`docker info` must succeed), with \
                 `docker compose` or docker-compose 1.29",
            )?;
        }
        Self::start(folder).await.map(Some)
    }

    async fn start(folder: &Path) -> Result<Self> {
        let run = tempfile::Builder::new().prefix("engine-").tempdir()?;
        let data = folder.join("engine");
        let log = folder.join("engine.log");
        let file = File::create(&log)?;
        let mut command = Command::new("setpriv");
        // The kernel stops it in order even if this process is killed.
        command.args(["--pdeathsig", "TERM", "--", "dockerd"]);
        command.arg("--storage-driver=overlay2").arg("--data-root").arg(&data);
        command.arg("--exec-root").arg(run.path().join("exec")).arg("--pidfile").arg(run.path().join("pid"));
        command.arg("--host").arg(format!("unix://{}", run.path().join("socket").display()));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).kill_on_drop(true);
        let daemon = command.spawn().context("cannot start dockerd")?;
        let mut engine = Self { daemon, run, data };
        let deadline = Instant::now() + PATIENCE;
        let host = engine.host();
        while self::run(Command::new("docker").args(["--host", &host, "version"]), QUICK).await.is_err() {
            let ended = engine.daemon.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = last_lines(&log, 15);
                bail!("dockerd does not answer ({ended:?}); it needs root and a kernel with overlayfs:\n{last}");
            }
            sleep(Duration::from_millis(200)).await;
        }
        say(&format!("no Docker engine answers; started dockerd with its data in {}", engine.data.display()));
        Ok(engine)
    }

    /// The address for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.run.path().join("socket").display())
    }

    /// Stops the engine and deletes its data, unless `keeps` is [`Data::Kept`].
    ///
    /// # Errors
    /// If it does not stop in time, or its data cannot be deleted.
    pub async fn stop(mut self, data: Data) -> Result<()> {
        let pid = self.daemon.id().context("dockerd has ended by itself")?;
        run(Command::new("kill").args(["-s", "TERM", &pid.to_string()]), QUICK).await?;
        let status = timeout(PATIENCE, self.daemon.wait()).await.context("dockerd does not stop")??;
        ensure!(status.success(), "dockerd ended with {status}");
        if data == Data::Deleted {
            std::fs::remove_dir_all(&self.data).with_context(|| self.data.display().to_string())?;
        }
        Ok(())
    }
}

/// What becomes of an engine's data when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// It stays, for a faster next run.
    Kept,
    /// It is deleted.
    Deleted,
}

/// Installs docker-compose if the engine that answers has no Compose.
async fn has_compose() -> Result<()> {
    let v2 = run(Command::new("docker").args(["compose", "version"]), QUICK).await;
    if v2.is_ok() || tools::on_path("docker-compose").is_some() {
        return Ok(());
    }
    say("Compose is not installed; installing docker-compose with apt-get");
    tools::apt_install(&["docker-compose"])
        .context("Compose is missing: install `docker compose` or docker-compose 1.29")
}
