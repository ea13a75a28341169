//! Starts the backends and Envoy of a stack, each with its settings.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use envoy::{bootstrap::Bootstrap, store::Store};

use super::{Options, PATIENCE, Ports, REPLICAS};
use crate::{backend_settings::BackendSettings, process::Process, tools};

/// Starts a backend and waits until it is ready to store events.
pub(super) fn start_backend(
    folder: &Path,
    name: &'static str,
    ports: Ports,
    options: &Options,
    own: &BackendSettings,
) -> Result<Process> {
    let mut command = backend_command(ports, options, own)?;
    let mut backend = Process::start(name, command.arg("serve"), &folder.join(name).with_extension("log"))?;
    backend.wait_until(PATIENCE, || answers(&format!("http://127.0.0.1:{}/readyz", ports.admin)))?;
    Ok(backend)
}

/// The backend's command without a subcommand, with the shared settings and then its own.
pub(super) fn backend_command(ports: Ports, options: &Options, own: &BackendSettings) -> Result<Command> {
    let program = match (&options.mutation, options.example) {
        (Some(_), _) => tools::workspace_binary("backend", "backend-mutated", &["backend/mutations"])?,
        (None, Some(example)) => tools::workspace_example("backend", example)?,
        (None, None) => tools::workspace_binary("backend", "backend", &[])?,
    };
    let mut command = Command::new(program);
    // It would name the backend of another stack, for somebody who has loaded the variables of a
    // running `cargo up`.
    command.env_remove("BACKEND_CONFIG");
    command.envs(options.mutation.as_ref().map(|mutation| ("BACKEND_MUTATION", mutation)));
    command.envs(backend_settings(ports, options).with_all(own).environment());
    Ok(command)
}

/// The settings that the backends share, with the addresses of the one at these ports.
pub(super) fn backend_settings(ports: Ports, options: &Options) -> BackendSettings {
    let mut settings = BackendSettings::usual(ports.ingest, ports.admin)
        .with_simulator(&options.simulator)
        .with("doctor.envoy_url", format!("http://127.0.0.1:{}", ports.envoy_metrics));
    if let Some(url) = &options.redis_url {
        settings.set("redis.url", url);
    }
    settings.with_all(&options.backend)
}

/// Starts Envoy with the shipped bootstrap and waits until it is ready.
pub(super) fn start_envoy(
    folder: &Path,
    ports: Ports,
    replicas: &[Ports],
    store: &Store,
    options: &Options,
) -> Result<Process> {
    let served = store.served_file();
    let directory = served.parent().unwrap_or(folder);
    let mut bootstrap = Bootstrap::shipped()
        .set("edge_address", "127.0.0.1")?
        .set("edge_port", ports.edge)?
        .set("metrics_address", "127.0.0.1")?
        .set("metrics_port", ports.envoy_metrics)?
        .set("admin_port", ports.envoy_admin)?
        .set("backend_address", "127.0.0.1")?
        .set("backend_port", ports.ingest)?
        .set("filter_directory", directory.display())?
        .set("filter_file", served.display())?
        .set("log_limit_file", tools::workspace().join("envoy/log-limit.yaml").display())?;
    for (ports, replica) in replicas.iter().zip(REPLICAS) {
        bootstrap =
            bootstrap.enable(replica.option)?.set(replica.address, "127.0.0.1")?.set(replica.port, ports.ingest)?;
    }
    for option in &options.enable {
        bootstrap = bootstrap.enable(option)?;
    }
    for (name, value) in &options.bootstrap {
        bootstrap = bootstrap.set(name, value)?;
    }
    let file = folder.join("envoy.yaml");
    fs::write(&file, bootstrap.render()?)?;
    let mut command = Command::new(tools::envoy()?);
    command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]);
    // By default Envoy writes the access log up to ten seconds late.
    command.args(["--file-flush-interval-msec", "200"]);
    let mut envoy = Process::start("envoy", &mut command, &folder.join("envoy.log"))?;
    envoy
        .wait_until(PATIENCE, || answers(&format!("http://127.0.0.1:{}/ready", ports.envoy_metrics)))
        .context("Envoy did not become ready")?;
    Ok(envoy)
}

/// Whether a GET request is answered with a success status.
pub(super) fn answers(url: &str) -> bool {
    ureq::get(url).config().timeout_global(Some(Duration::from_secs(2))).proxy(None).build().call().is_ok()
}
