//! The commands `docker` and `docker compose`.

use std::{env, ffi::OsString, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::command::run;
use crate::tools;

/// How long a command may take that builds or downloads nothing.
pub const QUICK: Duration = Duration::from_secs(120);
/// How long a build may take, with all its dependencies on two busy cores.
pub const BUILD: Duration = Duration::from_secs(20 * 60);

/// Makes `docker compose …` run docker-compose 1.29, so that every command can be run as the
/// documents show it. Version 2 by itself allocates no terminal if it has none.
const COMPOSE_V1: &str = r#"#!/bin/sh
if [ "$1" != compose ]; then
  exec "$REAL_DOCKER" "$@"
fi
shift
subcommand=
for argument do
  shift
  case $subcommand$argument in
    exec-T | run-T) continue ;;
  esac
  set -- "$@" "$argument"
  case $subcommand$argument in
    exec | run) set -- "$@" -T; subcommand=$argument ;;
    up | down | logs | ps | build | config | stop | start | restart | kill | pull | create) subcommand=$argument ;;
  esac
done
exec docker-compose "$@"
"#;

/// The command line of an engine.
#[derive(Debug, Clone)]
pub struct Docker {
    environment: Vec<(&'static str, OsString)>,
}

impl Docker {
    /// Creates the command line of the engine at `host`, or of the default one. `folder` gets a
    /// script if only docker-compose 1.29 is installed.
    ///
    /// # Errors
    /// If neither `docker compose` nor `docker-compose` is installed.
    pub async fn new(host: Option<&str>, folder: &Path) -> Result<Self> {
        let mut environment: Vec<_> = host.map(|host| ("DOCKER_HOST", OsString::from(host))).into_iter().collect();
        let docker = tools::on_path("docker").context("`docker` is not on the PATH")?;
        let mut v2 = Command::new(&docker);
        if run(v2.args(["compose", "version"]), QUICK).await.is_err() {
            tools::on_path("docker-compose").context("neither `docker compose` nor `docker-compose` is installed")?;
            let script = folder.join("bin/docker");
            fs::create_dir_all(folder.join("bin"))?;
            fs::write(&script, COMPOSE_V1)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = [folder.join("bin")].into_iter().chain(env::split_paths(&path));
            environment.push(("PATH", env::join_paths(folders)?));
            environment.push(("REAL_DOCKER", docker.into()));
        }
        Ok(Self { environment })
    }

    /// Runs `docker` with these arguments and returns what it printed, without the last newline.
    ///
    /// # Errors
    /// If it fails, or takes longer than a command that builds nothing may.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_within(QUICK, arguments).await
    }

    /// Like [`run`](Self::run), with another limit.
    ///
    /// # Errors
    /// If it fails, or takes longer than `limit`.
    pub async fn run_within(&self, limit: Duration, arguments: &[&str]) -> Result<String> {
        let printed = run(self.command("docker").args(arguments), limit).await?;
        Ok(printed.trim_end().to_owned())
    }

    /// Lists what a command prints, one item per line.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn list(&self, arguments: &[&str]) -> Result<Vec<String>> {
        Ok(self.run(arguments).await?.lines().map(str::to_owned).collect())
    }

    /// Returns a command with the environment of this engine.
    pub(super) fn command(&self, program: &str) -> Command {
        // The standard library would look for the program in the PATH of this process.
        let mut command = Command::new("env");
        command.arg(program).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
