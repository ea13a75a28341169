//! Which server holds a partition: the only one, the primary that the sentinels name, or one of a cluster's.
//!
//! All of a partition's keys share a hash slot, so all that there is to know is a server for each partition. We ask for
//! that once a second, and sooner after an error, and talk to each server directly. The client library's own cluster
//! connection would send `WAIT` and `CONFIG` to servers that the event is not on.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, aio::ConnectionManagerConfig};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{InboxError, confirm::Demand, keys::Keys, server_check::Requirements};
use crate::{
    config::{self, Topology},
    tls,
};

mod cluster;
mod fitness;
mod proven;
mod server;

pub(super) use server::{Server, Side};

use cluster::Slots;
use server::CONNECT_TIMEOUT;

/// The servers, and which of them holds what.
pub(super) struct Servers {
    topology: Topology,
    primary_name: String,
    /// Those that the configuration names: the only server, the sentinels, or some of the cluster's servers.
    named: Vec<Arc<Server>>,
    /// How to log in to a server.
    login: RedisConnectionInfo,
    manager: ConnectionManagerConfig,
    demand: Option<Demand>,
    requirements: Option<Requirements>,
    slots: Slots,
    layout: watch::Sender<Arc<Layout>>,
    doubted: Notify,
}

/// Which server holds what.
#[derive(Clone)]
pub(super) struct Layout {
    /// Each partition's, and at the end that of the keys that belong to no partition.
    of: Vec<Arc<Server>>,
}

/// How often we ask which servers there are, and how often at most.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);

/// The first server's answer that is one, or the last one's error. (An async closure would make the future not `Send`.)
macro_rules! first_answer {
    ($servers:expr, $server:ident => $question:expr) => {{
        let mut answer = Err(InboxError::Server("`redis.url` names no server".to_owned()));
        for $server in $servers {
            answer = $question.await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    }};
}

impl Servers {
    /// Finds out which servers there are, and makes sure that they answer.
    pub(super) async fn connect(
        config: &config::Redis,
        keys: &Keys,
        demand: Option<Demand>,
        requirements: Option<Requirements>,
    ) -> Result<Self, InboxError> {
        let manager = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Whoever asks has a timeout of its own.
            .set_response_timeout(None)
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_millis(500));
        tls::prepare();
        let mut named = Vec::new();
        let mut login = RedisConnectionInfo::default();
        for url in config.urls() {
            let mut info = url.into_connection_info()?;
            login = info.redis_settings().clone();
            if config.topology == Topology::Sentinel {
                let password = config.sentinel_password.reveal();
                let own = RedisConnectionInfo::default();
                info = info.set_redis_settings(if password.is_empty() { own } else { own.set_password(password) });
            }
            named.push(Arc::new(Server::new(info, &manager, demand, requirements)?));
        }
        let mut servers = Self {
            topology: config.topology,
            primary_name: config.sentinel_primary.clone(),
            named,
            login,
            manager,
            demand,
            requirements,
            slots: Slots::default(),
            layout: watch::Sender::new(Arc::new(Layout { of: Vec::new() })),
            doubted: Notify::new(),
        };
        first_answer!(&servers.named, server => server.ensure_answers())?;
        if config.topology == Topology::Cluster {
            servers.slots = first_answer!(&servers.named, server => cluster::slots_of(server, keys))?;
        }
        let places = keys.partitions() as usize + 1;
        let layout = servers.ask_for_layout(places).await?;
        servers.layout.send_replace(Arc::new(layout));
        Ok(servers)
    }

    /// The server of a partition.
    pub(super) fn of_partition(&self, partition: u32) -> Arc<Server> {
        Arc::clone(&self.layout.borrow().of[partition as usize])
    }

    /// The server of the keys that belong to no partition.
    pub(super) fn of_common(&self) -> Arc<Server> {
        let layout = self.layout.borrow();
        Arc::clone(&layout.of[layout.of.len() - 1])
    }

    /// Each server once, by its address.
    pub(super) fn all(&self) -> BTreeMap<String, Arc<Server>> {
        self.layout.borrow().of.iter().map(|server| (server.address(), Arc::clone(server))).collect()
    }

    /// Tells when another server holds something.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Layout>> {
        self.layout.subscribe()
    }

    /// A command failed: perhaps something is held by another server now.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// A command got no answer: the next ones go over other connections.
    pub(super) fn replace_connections(&self) {
        for server in self.all().into_values() {
            server.replace_connection();
        }
    }

    /// Keeps knowing which server holds what, until `shutdown` is cancelled.
    pub(super) async fn watch(&self, shutdown: &CancellationToken) {
        while self.topology != Topology::Single && !shutdown.is_cancelled() {
            sleep(SHORTEST).await;
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = self.doubted.notified() => {}
                () = shutdown.cancelled() => return,
            }
            let places = self.layout.borrow().of.len();
            match self.ask_for_layout(places).await {
                Ok(layout) => self.take(layout),
                Err(error) => tracing::debug!("cannot tell which Redis servers there are: {error}"),
            }
        }
    }

    fn take(&self, layout: Layout) {
        self.layout.send_if_modified(|known| {
            let moved = known.of.iter().zip(&layout.of).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
            if moved > 0 {
                tracing::info!(servers = %layout.describe(), "{moved} of {} partitions have another server", layout.of.len());
                *known = Arc::new(layout);
            }
            moved > 0
        });
    }

    async fn ask_for_layout(&self, places: usize) -> Result<Layout, InboxError> {
        match self.topology {
            Topology::Single => Ok(Layout { of: vec![Arc::clone(&self.named[0]); places] }),
            Topology::Sentinel => {
                let address = first_answer!(&self.named, sentinel => self.ask_for_primary(sentinel))?;
                let layout = self.layout_of(&vec![address; places])?;
                layout.of[0].ensure_primary().await?;
                Ok(layout)
            }
            Topology::Cluster => {
                let mut asked: Vec<_> = self.all().into_values().collect();
                fastrand::shuffle(&mut asked);
                asked.truncate(3);
                asked.extend(self.named.iter().cloned());
                self.layout_of(&self.slots.places(&asked).await?)
            }
        }
    }

    /// The servers at those addresses: those that we know, or else new ones, to which we connect when they are first asked.
    fn layout_of(&self, addresses: &[ConnectionAddr]) -> Result<Layout, InboxError> {
        let mut known = self.all();
        let mut of = Vec::with_capacity(addresses.len());
        for address in addresses {
            let server = match known.entry(address.to_string()) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(unknown) => {
                    let info = address.clone().into_connection_info()?.set_redis_settings(self.login.clone());
                    let server = Server::new(info, &self.manager, self.demand, self.requirements)?;
                    Arc::clone(unknown.insert(Arc::new(server)))
                }
            };
            of.push(server);
        }
        Ok(Layout { of })
    }

    async fn ask_for_primary(&self, sentinel: &Server) -> Result<ConnectionAddr, InboxError> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.primary_name);
        let answer: Option<(String, u16)> = sentinel.ask(ask.query_async(&mut sentinel.connection())).await?;
        let (host, port) = answer.ok_or_else(|| {
            InboxError::Server(format!(
                "the sentinels know no primary `{}`, which `redis.sentinel_primary` names",
                self.primary_name
            ))
        })?;
        Ok(sentinel.neighbour(host, port))
    }
}

impl Layout {
    fn describe(&self) -> String {
        let mut addresses: Vec<_> = self.of.iter().map(|server| server.address()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.join(" ")
    }
}
