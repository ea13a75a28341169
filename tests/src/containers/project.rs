//! A Compose project with its own name and its own copy of the repository.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{
    command::{self, last_lines},
    container::Container,
    context,
    docker::{BUILD, Docker, QUICK},
    gateway,
    pages::{self, Performed},
};
use crate::{process::free_port, tools};

/// How long a container may take to become healthy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A Compose project. Its containers, networks, volumes and images stay until [`remove`](Self::remove).
#[derive(Debug, Clone)]
pub struct Project {
    docker: Docker,
    /// The project's name.
    pub name: String,
    /// The project's copy of the repository. Commands run in it, and tests may change it.
    pub folder: PathBuf,
    /// The published port of Envoy, with the host's address in the engine's default network. On
    /// 127.0.0.1, a proxy of the engine would accept connections even while Envoy does not.
    pub edge_address: SocketAddr,
    performed: Performed,
}

/// A command that runs until it is stopped. It is killed when dropped.
#[derive(Debug)]
pub struct Foreground {
    child: Child,
    log: PathBuf,
}

impl Project {
    /// Creates a project below `folder`, with a fresh copy of the repository.
    ///
    /// # Errors
    /// If the repository cannot be copied, no port is free, or the engine does not answer.
    pub async fn new(docker: &Docker, name: &str, folder: &Path, performed: &Performed) -> Result<Self> {
        let folder = folder.join(name);
        context::copy(tools::workspace(), &folder).context("cannot copy the repository")?;
        let edge_address = (gateway::of_containers(docker).await?, free_port()?).into();
        Ok(Self { docker: docker.clone(), name: name.to_owned(), folder, edge_address, performed: performed.clone() })
    }

    /// The engine's command line.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Runs `docker compose` with these arguments and returns what it wrote to standard output.
    ///
    /// # Errors
    /// If it fails.
    pub async fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("docker");
        command::run(command.arg("compose").args(arguments), BUILD).await
    }

    /// Runs a block of shell commands, as the documents show them, and returns what it wrote to
    /// standard output. Standard error is joined to it.
    ///
    /// # Errors
    /// If a command fails.
    pub async fn shell(&self, block: &str) -> Result<String> {
        self.performed.note(block);
        let mut command = self.command("sh");
        command::run(command.args(["-euc", &format!("exec 2>&1\n{block}")]), BUILD).await
    }

    /// Runs a command that a page shows, as [`shell`](Self::shell) does.
    ///
    /// # Errors
    /// If the page does not show it, or it fails.
    pub async fn shown(&self, page: &str, command: &str) -> Result<String> {
        pages::shows(page, command)?;
        self.shell(command).await
    }

    /// Leaves out a command that a page shows, because it cannot be performed on this machine.
    ///
    /// # Errors
    /// If the page does not show it.
    pub fn leave_out(&self, page: &str, command: &str) -> Result<()> {
        pages::shows(page, command)?;
        self.performed.note(command);
        Ok(())
    }

    /// Starts a block of shell commands that runs until it is stopped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn foreground(&self, block: &str) -> Result<Foreground> {
        self.performed.note(block);
        let log = self.folder.with_extension("log");
        let file = File::create(&log)?;
        let mut command = self.command("sh");
        command.args(["-euc", &format!("exec {block}")]).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok(Foreground { child, log })
    }

    /// Runs a command in the container of a service.
    ///
    /// # Errors
    /// If it fails.
    pub async fn exec(&self, service: &str, arguments: &[&str]) -> Result<String> {
        self.compose(&[&["exec", service], arguments].concat()).await
    }

    /// The containers of a service, oldest first; without those of `docker compose run`.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn containers(&self, service: &str) -> Result<Vec<Container>> {
        let service = format!("label=com.docker.compose.service={service}");
        let project = self.label();
        let mut ids = self
            .docker
            .list(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service, "--filter", NOT_ONE_OFF])
            .await?;
        ids.reverse();
        Ok(ids.into_iter().map(|id| Container::new(&self.docker, id)).collect())
    }

    /// The only container of a service.
    ///
    /// # Errors
    /// If there is none, or several.
    pub async fn container(&self, service: &str) -> Result<Container> {
        let mut containers = self.containers(service).await?;
        ensure!(containers.len() == 1, "{} has {} containers of service {service}", self.name, containers.len());
        containers.pop().context("there is one")
    }

    /// Waits until every container of these services is healthy.
    ///
    /// # Errors
    /// If one of them is not healthy in time; with the end of its log.
    pub async fn healthy(&self, services: &[&str]) -> Result<()> {
        for service in services {
            let containers = self.containers(service).await?;
            ensure!(!containers.is_empty(), "{} has no container of service {service}", self.name);
            for container in containers {
                container.healthy(PATIENCE).await.with_context(|| format!("service {service}"))?;
            }
        }
        Ok(())
    }

    /// The address of Redis, which the host reaches without a published port.
    ///
    /// # Errors
    /// If Redis does not run.
    pub async fn redis(&self) -> Result<SocketAddr> {
        Ok((self.container("redis").await?.address().await?, 6379).into())
    }

    /// The URL of Envoy, without the webhook's path.
    pub fn edge(&self) -> String {
        format!("http://{}", self.edge_address)
    }

    /// Replaces a piece of a file of this project's copy. The file is replaced by renaming, as most
    /// editors do.
    ///
    /// # Errors
    /// If the file does not contain the piece exactly once.
    pub fn edit(&self, file: &str, old: &str, new: &str) -> Result<()> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let found = text.matches(old).count();
        ensure!(found == 1, "{file} contains {old:?} {found} times, and the test changes exactly one place");
        let written = path.with_extension("new");
        fs::write(&written, text.replace(old, new))?;
        fs::set_permissions(&written, fs::metadata(&path)?.permissions())?;
        Ok(fs::rename(written, path)?)
    }

    /// The end of the log of every container, for an error.
    pub async fn logs(&self) -> String {
        let listed = self.docker.list(&["ps", "-aq", "--filter", &self.label()]).await;
        let mut logs = String::new();
        for id in listed.unwrap_or_default() {
            let container = Container::new(&self.docker, id);
            let state = container.inspect("{{.Name}} {{.State.Status}} {{.State.ExitCode}}").await.unwrap_or_default();
            let log = container.logs().await.unwrap_or_else(|error| format!("no log: {error:#}"));
            logs.push_str(&format!("== {state}\n{}\n", last_lines(&log, 25)));
        }
        logs
    }

    /// Removes everything that the project has created in the engine, and its folder; but not the
    /// images that have lost their names to newer ones, which projects share.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub async fn remove(&self) -> Result<()> {
        let label = self.label();
        let filter = ["--filter", label.as_str()];
        let containers = self.docker.list(&[&["ps", "-aq"], &filter[..]].concat()).await?;
        self.each(&["rm", "--force", "--volumes"], containers).await?;
        let networks = self.docker.list(&[&["network", "ls", "-q"], &filter[..]].concat()).await?;
        self.each(&["network", "rm"], networks).await?;
        let volumes = self.docker.list(&[&["volume", "ls", "-q"], &filter[..]].concat()).await?;
        self.each(&["volume", "rm"], volumes).await?;
        let mut images = self.docker.list(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).await?;
        images.retain(|name| name.starts_with(&self.name));
        self.each(&["rmi"], images).await?;
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    async fn each(&self, command: &[&str], names: Vec<String>) -> Result<()> {
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            self.docker.run(&[command, &names].concat()).await?;
        }
        Ok(())
    }

    fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.docker.command(program);
        command.current_dir(&self.folder).env("COMPOSE_PROJECT_NAME", &self.name);
        // Variables of the environment take precedence over those in `.env`.
        command.env("EDGE_PORT", self.edge_address.to_string());
        // A free port, since something else on this machine may use the usual one.
        command.env("CONSOLE_PORT", "");
        command
    }
}

const NOT_ONE_OFF: &str = "label=com.docker.compose.oneoff=False";

impl Foreground {
    /// Everything that it has written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Waits until its output satisfies a condition.
    ///
    /// # Errors
    /// If it ends first, or that takes longer than `patience`; with the end of its output.
    pub async fn wait_for(&mut self, patience: Duration, condition: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            let log = self.log();
            if condition(&log) {
                return Ok(log);
            }
            let ended = self.child.try_wait()?;
            let last = last_lines(&log, 40);
            ensure!(ended.is_none(), "the command ended with {ended:?}:\n{last}");
            ensure!(Instant::now() < deadline, "waited {patience:?} in vain:\n{last}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Presses Ctrl-C, and waits until the command has ended.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn interrupt(mut self) -> Result<()> {
        let group = self.child.id().context("the command has ended already")?;
        command::run(Command::new("kill").args(["-s", "INT", "--", &format!("-{group}")]), QUICK).await?;
        tokio::time::timeout(QUICK, self.child.wait()).await.context("the command did not end after Ctrl-C")??;
        Ok(())
    }
}
