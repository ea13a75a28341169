//! A whole stack on free ports of this machine: Redis, backends, and Envoy with the filter.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Result, bail};
use envoy::{build::Build, store::Store};
use tempfile::TempDir;

use crate::{
    process::{Process, free_port},
    redis_server::{self, RedisOptions, RedisServer},
    tools,
};

mod clock;
mod config_file;
mod drained;
mod endpoints;
pub mod group;
mod network;
mod options;
mod programs;
mod publication;

pub use clock::Clock;
pub use drained::DrainedEnvoy;
pub use network::Network;
pub use options::Options;

use crate::backend_settings::{BackendSettings, PROOF};
use group::Group;
use programs::{backend_command, start_backend, start_envoy};

/// The running programs. They are stopped when dropped: first Envoy, which takes requests, and last
/// Redis.
pub struct Stack {
    /// Envoy.
    pub envoy: Process,
    /// The first backend.
    pub backend: Process,
    /// The other backends.
    pub replicas: Vec<Process>,
    /// The Redis server; `None` if there are several, or if an existing one is used.
    pub redis: Option<RedisServer>,
    /// The Redis servers, if there are several.
    pub group: Option<Group>,
    /// The proxies of each backend, starting with the first; empty unless [`Options::proxied`] is
    /// set.
    pub networks: Vec<Network>,
    /// The clock of each backend, starting with the first; empty unless [`Options::clocks`] is set.
    pub clocks: Vec<Clock>,
    ports: Ports,
    replica_ports: Vec<Ports>,
    /// The settings of each backend that differ from those of the others, starting with the first
    /// backend.
    own_settings: Vec<BackendSettings>,
    options: Options,
    folder: PathBuf,
    temporary: Option<TempDir>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    edge: u16,
    envoy_metrics: u16,
    envoy_admin: u16,
    ingest: u16,
    admin: u16,
}

/// The name of a backend besides the first, and the names of its options in Envoy's bootstrap.
struct Replica {
    name: &'static str,
    option: &'static str,
    address: &'static str,
    port: &'static str,
}

const REPLICAS: [Replica; 2] = [
    Replica { name: "backend-2", option: "backend_2", address: "backend_2_address", port: "backend_2_port" },
    Replica { name: "backend-3", option: "backend_3", address: "backend_3_address", port: "backend_3_port" },
];

/// How long a program may take to become ready.
const PATIENCE: Duration = Duration::from_secs(30);

impl Ports {
    /// The ports of the first backend and of Envoy.
    fn first(edge: Option<u16>) -> Result<Self> {
        Ok(Self {
            edge: edge.map_or_else(free_port, Ok)?,
            envoy_metrics: free_port()?,
            envoy_admin: free_port()?,
            ingest: free_port()?,
            admin: free_port()?,
        })
    }

    /// The ports of another backend of the same stack.
    fn replica(self) -> Result<Self> {
        Ok(Self { ingest: free_port()?, admin: free_port()?, ..self })
    }
}

impl Stack {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Errors
    /// If a program is missing, or does not become ready in time; with the end of its log.
    pub fn start(mut options: Options) -> Result<Self> {
        let temporary = if options.folder.is_none() { Some(tempfile::tempdir()?) } else { None };
        let temporary_folder = temporary.as_ref().map(|folder| folder.path().to_owned());
        let folder = options.folder.clone().or(temporary_folder).unwrap_or_default();
        fs::create_dir_all(&folder)?;
        let ports = Ports::first(options.edge_port)?;

        let group = options.group.map(|kind| Group::start(&folder, kind)).transpose()?;
        let redis = if group.is_none() && options.redis_url.is_none() { Some(start_redis(&folder)?) } else { None };
        if let Some(group) = &group {
            options.backend = group.settings().with_all(&options.backend);
        }
        if let Some(redis) = &redis {
            options.redis_url = Some(redis.url());
        }

        let mut networks = Vec::new();
        let mut clocks = Vec::new();
        let mut own_settings = Vec::new();
        for number in 0..=options.replicas {
            let mut own = BackendSettings::default();
            if options.proxied {
                let network = Network::start(redis.as_ref().map(RedisServer::address), &options)?;
                own = own.with_all(&network.settings());
                networks.push(network);
            }
            if options.clocks {
                let clock = Clock::new(&folder, &format!("backend-{}", number + 1))?;
                own = own.with_all(&clock.settings()?);
                clocks.push(clock);
            }
            own_settings.push(own);
        }

        let backend = start_backend(&folder, "backend", ports, &options, &own_settings[0])?;
        let mut replicas = Vec::new();
        let mut replica_ports = Vec::new();
        for number in 0..options.replicas {
            let ports = ports.replica()?;
            let own = &own_settings[number + 1];
            replicas.push(start_backend(&folder, REPLICAS[number].name, ports, &options, own)?);
            replica_ports.push(ports);
        }
        let store = Store::open(&folder.join("edge"))?;
        let module = fs::read(tools::wasm_filter()?)?;
        let build = Build { module, policy: options.policy.clone(), proof: PROOF.into() };
        publication::publisher(store.clone(), None).publish(&build)?;
        let envoy = start_envoy(&folder, ports, &replica_ports, &store, &options)?;
        Ok(Self {
            envoy,
            backend,
            replicas,
            redis,
            group,
            networks,
            clocks,
            ports,
            replica_ports,
            own_settings,
            options,
            folder,
            temporary,
        })
    }

    /// The folder with all data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the folder with data and logs after the stack has stopped.
    pub fn keep_folder(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }

    /// Runs one of the backend's other subcommands with the backend's settings, and returns what it
    /// prints.
    ///
    /// # Errors
    /// If the command fails; with what it prints on standard error.
    pub fn backend_command(&self, arguments: &[&str]) -> Result<String> {
        let output = self.backend_output(arguments, &BackendSettings::default())?;
        if !output.status.success() {
            bail!("backend {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs one of the backend's other subcommands with the backend's settings and `own` ones, and
    /// returns what it prints and its exit code.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub fn backend_output(&self, arguments: &[&str], own: &BackendSettings) -> Result<Output> {
        Ok(self.backend_process(arguments, own)?.output()?)
    }

    /// Returns one of the backend's other subcommands, with the backend's settings and `own` ones, to
    /// be run.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn backend_process(&self, arguments: &[&str], own: &BackendSettings) -> Result<Command> {
        let mut command = backend_command(self.ports, &self.options, own)?;
        command.args(arguments);
        Ok(command)
    }

    /// Changes a setting, by its name in `config.default.toml`, of the backends that are started
    /// from now on.
    pub fn set_backend(&mut self, name: &str, value: impl ToString) {
        self.options.backend.set(name, value);
    }

    /// Starts the first backend again after it was killed or stopped.
    ///
    /// # Errors
    /// If it does not become ready in time.
    pub fn start_backend(&mut self) -> Result<()> {
        self.backend = start_backend(&self.folder, "backend", self.ports, &self.options, &self.own_settings[0])?;
        Ok(())
    }

    /// Starts one of the other backends again, counted from 0.
    ///
    /// # Errors
    /// If it does not become ready in time.
    pub fn start_replica(&mut self, number: usize) -> Result<()> {
        let ports = self.replica_ports[number];
        let own = &self.own_settings[number + 1];
        self.replicas[number] = start_backend(&self.folder, REPLICAS[number].name, ports, &self.options, own)?;
        Ok(())
    }

    /// Starts Redis again on its data after it was killed or stopped.
    ///
    /// # Errors
    /// If the stack has no Redis server of its own, or it does not become ready in time.
    pub fn start_redis(&mut self) -> Result<()> {
        match &mut self.redis {
            Some(redis) => redis.start_again(),
            None => bail!("this stack has no single Redis server of its own"),
        }
    }

    /// Stops the backends, which release their leases.
    ///
    /// # Errors
    /// If a backend cannot be told to stop.
    pub fn stop_backends(&mut self) -> Result<()> {
        for backend in [&mut self.backend].into_iter().chain(&mut self.replicas) {
            backend.stop(Duration::from_secs(25))?;
        }
        Ok(())
    }

    /// Stops everything, in an order that loses no event.
    ///
    /// # Errors
    /// If a program cannot be told to stop.
    pub fn stop(mut self) -> Result<()> {
        self.envoy.stop(Duration::from_secs(5))?;
        self.stop_backends()?;
        if let Some(mut redis) = self.redis.take() {
            redis.process.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }
}

fn start_redis(folder: &Path) -> Result<RedisServer> {
    let mut options = RedisOptions::with(&redis_server::FSYNC);
    options.folder = Some(folder.join("redis"));
    RedisServer::start(options)
}
