//! Redis, backend and Envoy with the filter, together on free ports of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use envoy::{
    edge::Edge,
    publish::{Backends, Build, Publisher, Unanswered},
    store::Store,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    metrics::Metrics,
    process::{Process, free_port},
    tools,
};

mod clock;
mod drained;
pub mod group;
mod network;
mod options;
mod programs;

pub use clock::Clock;
pub use drained::DrainedEnvoy;
pub use network::Network;
pub use options::Options;

use group::Group;
use programs::{backend_command, start_backend, start_envoy, start_redis};

/// The running programs, stopped when dropped: first what takes requests, last what stores.
pub struct Stack {
    /// Envoy.
    pub envoy: Process,
    /// The backend.
    pub backend: Process,
    /// More of them, which do the same.
    pub replicas: Vec<Process>,
    /// Redis, where it is our own and there is one.
    pub redis: Option<Process>,
    /// The Redis servers, where there are several.
    pub group: Option<Group>,
    /// The proxies of each backend, the first one's first; none unless they were asked for.
    pub networks: Vec<Network>,
    /// The clock of each backend, the first one's first; none unless they were asked for.
    pub clocks: Vec<Clock>,
    ports: Ports,
    replica_ports: Vec<Ports>,
    /// The settings that a backend does not share with the others, the first one's first.
    own: Vec<Settings>,
    options: Options,
    folder: PathBuf,
    temporary: Option<TempDir>,
}

/// Settings of a backend, by their names in the environment.
type Settings = Vec<(&'static str, String)>;

#[derive(Debug, Clone, Copy)]
struct Ports {
    edge: u16,
    envoy_metrics: u16,
    envoy_admin: u16,
    ingest: u16,
    admin: u16,
    redis: u16,
}

/// The backends besides the first: their names, and those in Envoy's bootstrap.
const OTHERS: [(&str, &str, &str, &str); 2] = [
    ("backend-2", "backend_2", "backend_2_address", "backend_2_port"),
    ("backend-3", "backend_3", "backend_3_address", "backend_3_port"),
];

impl Ports {
    /// Those of another backend in the same stack.
    fn replica(self) -> Result<Self> {
        Ok(Self { ingest: free_port()?, admin: free_port()?, ..self })
    }
}

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the filter shows to the backend: no secret on a machine's own loopback interface.
pub const PROOF: &str = "a-proof-for-this-machine-alone";
/// The partner's key, which the simulator asks for.
pub const API_KEY: &str = "a-key-that-the-simulator-knows";
/// The secret with which outcomes are signed for the simulator.
pub const SINK_SECRET: &str = "whsec_c2ltdWxhdG9yLWFuZC1iYWNrZW5kLXNoYXJlLWl0";

impl Stack {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Errors
    /// Where a program is missing, or does not get ready; with the end of its log.
    pub fn start(mut options: Options) -> Result<Self> {
        let temporary = if options.folder.is_none() { Some(tempfile::tempdir()?) } else { None };
        let folder = match (&options.folder, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::from("."),
        };
        fs::create_dir_all(folder.join("redis"))?;
        let ports = Ports {
            edge: options.edge_port.map_or_else(free_port, Ok)?,
            envoy_metrics: free_port()?,
            envoy_admin: free_port()?,
            ingest: free_port()?,
            admin: free_port()?,
            redis: free_port()?,
        };
        let group = options.group.map(|kind| Group::start(&folder, kind)).transpose()?;
        if let Some(group) = &group {
            options.backend.splice(0..0, group.settings());
        }
        let has_redis = options.redis_url.is_some() || group.is_some();
        let redis = if has_redis { None } else { Some(start_redis(&folder, ports.redis)?) };
        let replicas: Vec<_> = (0..options.replicas).map(|_| ports.replica()).collect::<Result<_>>()?;
        let mut networks = Vec::new();
        if options.proxied {
            let server = redis.is_some().then(|| ([127, 0, 0, 1], ports.redis).into());
            for _ in 0..=options.replicas {
                networks.push(Network::start(server, &options)?);
            }
        }
        let mut own: Vec<_> = networks.iter().map(Network::settings).collect();
        own.resize(options.replicas + 1, Settings::new());
        let mut clocks = Vec::new();
        if options.clocks {
            for (number, own) in own.iter_mut().enumerate() {
                let clock = Clock::new(&folder, &format!("backend-{}", number + 1))?;
                own.extend(clock.settings()?);
                clocks.push(clock);
            }
        }
        let backend = start_backend(&folder, "backend", ports, &options, &own[0])?;
        let others = replicas.iter().zip(OTHERS).zip(&own[1..]);
        let others = others.map(|((&ports, (name, ..)), own)| start_backend(&folder, name, ports, &options, own));
        let others = others.collect::<Result<_>>()?;
        let build =
            Build { module: fs::read(tools::wasm_filter()?)?, policy: options.policy.clone(), proof: PROOF.into() };
        let store = Store::open(&folder.join("edge"))?;
        publisher(store.clone(), None).publish(&build)?;
        let envoy = start_envoy(&folder, ports, &replicas, &store, &options)?;
        Ok(Self {
            envoy,
            backend,
            replicas: others,
            redis,
            group,
            networks,
            clocks,
            ports,
            replica_ports: replicas,
            own,
            options,
            folder,
            temporary,
        })
    }

    /// Where TruEnroll posts its events.
    pub fn webhook(&self) -> String {
        let path = self.options.policy.get("path").and_then(Value::as_str).unwrap_or("/webhooks/truenroll");
        format!("http://127.0.0.1:{}{path}", self.ports.edge)
    }

    /// The edge's address, without a path.
    pub fn edge(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.edge)
    }

    /// The backend's address for what the edge has accepted.
    pub fn ingest(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.ingest)
    }

    /// The backend's address for operators.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.admin)
    }

    /// Envoy's address for operators.
    pub fn envoy_admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.envoy_metrics)
    }

    /// The URLs of the Redis servers that hold everything.
    ///
    /// # Errors
    /// Where several servers do not agree which these are.
    pub fn redis_urls(&self) -> Result<Vec<String>> {
        self.group.as_ref().map_or_else(|| Ok(vec![self.redis_url()]), Group::primaries)
    }

    /// Redis' URL, where there is one server.
    pub fn redis_url(&self) -> String {
        self.options.redis_url.clone().unwrap_or_else(|| format!("redis://127.0.0.1:{}", self.ports.redis))
    }

    /// The folder with data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What publishes filter builds to this stack's Envoy.
    ///
    /// # Errors
    /// Where the shared directory is not there.
    pub fn publisher(&self) -> Result<Publisher> {
        let edge = Edge { url: self.envoy_admin_url() };
        let store = Store::open(&self.folder.join("edge"))?;
        Ok(publisher(store, Some(edge)))
    }

    /// A build of the filter with that policy.
    ///
    /// # Errors
    /// Where the filter does not build.
    pub fn build(&self, policy: Value) -> Result<Build> {
        Ok(Build { module: fs::read(tools::wasm_filter()?)?, policy, proof: PROOF.into() })
    }

    /// Runs one of the backend's other commands with its settings, and returns what it prints.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub fn backend_command(&self, arguments: &[&str]) -> Result<String> {
        let output = backend_command(self.ports, &self.options, &[])?.args(arguments).output()?;
        if !output.status.success() {
            bail!("backend {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the backend anew, after it was killed or stopped.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_backend(&mut self) -> Result<()> {
        self.backend = start_backend(&self.folder, "backend", self.ports, &self.options, &self.own[0])?;
        Ok(())
    }

    /// Adds a setting for the backends that are started from now on, by its name in the environment.
    pub fn set_backend(&mut self, name: &'static str, value: impl ToString) {
        self.options.backend.push((name, value.to_string()));
    }

    /// Starts one of the other backends anew.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_replica(&mut self, number: usize) -> Result<()> {
        let (name, ports) = (OTHERS[number].0, self.replica_ports[number]);
        self.replicas[number] = start_backend(&self.folder, name, ports, &self.options, &self.own[number + 1])?;
        Ok(())
    }

    /// What each backend has counted, the first one's first.
    ///
    /// # Errors
    /// Where one does not answer.
    pub async fn all_backend_metrics(&self) -> Result<Vec<Metrics>> {
        let mut all = Vec::new();
        for ports in [&self.ports].into_iter().chain(&self.replica_ports) {
            all.push(get_metrics(&format!("http://127.0.0.1:{}/metrics", ports.admin)).await?);
        }
        Ok(all)
    }

    /// Starts Redis anew on the data that it has on its disk.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_redis(&mut self) -> Result<()> {
        self.redis = Some(start_redis(&self.folder, self.ports.redis)?);
        Ok(())
    }

    /// What the backend has counted.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn backend_metrics(&self) -> Result<Metrics> {
        get_metrics(&format!("{}/metrics", self.admin())).await
    }

    /// What Envoy and the filter have counted.
    ///
    /// # Errors
    /// Where Envoy does not answer.
    pub async fn envoy_metrics(&self) -> Result<Metrics> {
        get_metrics(&format!("{}/stats/prometheus", self.envoy_admin_url())).await
    }

    /// Leaves data and logs where they are, for somebody to look at.
    pub fn keep_folder(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }

    /// Stops the backends, which give back what they own.
    ///
    /// # Errors
    /// Where one cannot be told to stop.
    pub fn stop_backends(&mut self) -> Result<()> {
        for backend in [&mut self.backend].into_iter().chain(&mut self.replicas) {
            backend.stop(Duration::from_secs(25))?;
        }
        Ok(())
    }

    /// Stops everything in the order in which nothing is lost on the way.
    ///
    /// # Errors
    /// Where a program cannot be told to stop.
    pub fn stop(mut self) -> Result<()> {
        self.envoy.stop(Duration::from_secs(5))?;
        self.stop_backends()?;
        if let Some(mut redis) = self.redis.take() {
            redis.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }
}

/// Without a rehearsal and without watching, which what is tested asks for by itself.
fn publisher(store: Store, edge: Option<Edge>) -> Publisher {
    Publisher {
        store,
        edge,
        unanswered: Unanswered::Fail,
        backends: Backends::Ask,
        rehearse_with: None,
        patience: PATIENCE,
        watch: Duration::ZERO,
        max_rise: 0.2,
        keep: 10,
    }
}

async fn get_metrics(url: &str) -> Result<Metrics> {
    let answer = reqwest::get(url).await?.error_for_status()?;
    Ok(Metrics::parse(&answer.text().await?))
}
