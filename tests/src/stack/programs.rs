//! Starts the programs of a stack, each with its settings.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use envoy::{bootstrap::Bootstrap, store::Store};

use super::{API_KEY, OTHERS, Options, PATIENCE, PROOF, Ports, SINK_SECRET};
use crate::{process::Process, tools};

pub(super) fn start_redis(folder: &Path, port: u16) -> Result<Process> {
    let mut command = Command::new(tools::redis_server()?);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder.join("redis"));
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
    let mut redis = Process::start("redis-server", &mut command, &folder.join("redis.log"))?;
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    redis.wait_until(PATIENCE, || {
        client.get_connection().is_ok_and(|mut connection| redis::cmd("PING").exec(&mut connection).is_ok())
    })?;
    Ok(redis)
}

pub(super) fn start_backend(
    folder: &Path,
    name: &'static str,
    ports: Ports,
    options: &Options,
    own: &[(&'static str, String)],
) -> Result<Process> {
    let mut command = backend_command(ports, options, own)?;
    let mut backend = Process::start(name, command.arg("serve"), &folder.join(name).with_extension("log"))?;
    backend.wait_until(PATIENCE, || answers(&format!("http://127.0.0.1:{}/readyz", ports.admin)))?;
    Ok(backend)
}

/// The backend with its settings, first those that it shares with others and then its own, and without a subcommand.
pub(super) fn backend_command(ports: Ports, options: &Options, own: &[(&'static str, String)]) -> Result<Command> {
    let program = match &options.mutation {
        None => tools::workspace_binary(options.program, options.program, &[])?,
        Some(_) => tools::workspace_binary("backend", "backend-mutated", &["backend/mutations"])?,
    };
    let mut command = Command::new(program);
    command.envs(options.mutation.as_ref().map(|mutation| ("BACKEND_MUTATION", mutation)));
    let loopback = |port| format!("127.0.0.1:{port}");
    let redis = options.redis_url.clone().unwrap_or_else(|| format!("redis://127.0.0.1:{}", ports.redis));
    command
        .env("BACKEND__INGEST__LISTEN", loopback(ports.ingest))
        .env("BACKEND__INGEST__PROOF", PROOF)
        .env("BACKEND__ADMIN__LISTEN", loopback(ports.admin))
        .env("BACKEND__REDIS__URL", redis)
        .env("BACKEND__PARTNER_API__BASE_URL", format!("{}/partner/v1", options.simulator))
        .env("BACKEND__PARTNER_API__API_KEY", API_KEY)
        // Its calls would get answers that a test has prepared for others.
        .env("BACKEND__RECONCILER__INTERVAL_S", "0")
        // Few cases of the simulator ever come to their end.
        .env("BACKEND__HANDLER__WAIT_FOR_CASE_S", "0")
        .env("BACKEND__SINK__KIND", "http")
        .env("BACKEND__SINK__URL", format!("{}/outcomes", options.simulator))
        .env("BACKEND__SINK__SECRET", SINK_SECRET)
        // What a killed backend owned has to be free again soon.
        .env("BACKEND__WORKER__LEASE_MS", "1000")
        .envs(options.backend.iter().map(|(name, value)| (name, value)))
        .envs(own.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

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
    for (replica, (_, option, address, port)) in replicas.iter().zip(OTHERS) {
        bootstrap = bootstrap.enable(option)?.set(address, "127.0.0.1")?.set(port, replica.ingest)?;
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
    // By default the access log is up to ten seconds late.
    command.args(["--file-flush-interval-msec", "200"]);
    let mut envoy = Process::start("envoy", &mut command, &folder.join("envoy.log"))?;
    envoy
        .wait_until(PATIENCE, || answers(&format!("http://127.0.0.1:{}/ready", ports.envoy_metrics)))
        .context("Envoy does not start")?;
    Ok(envoy)
}

/// Whether a GET is answered with a success.
pub(super) fn answers(url: &str) -> bool {
    ureq::get(url).config().timeout_global(Some(Duration::from_secs(2))).proxy(None).build().call().is_ok()
}
