//! Which server holds which partition: the only server, the primary that the sentinels name, or one
//! of the servers of a cluster.
//!
//! All keys of a partition share a hash slot, so one server for each partition is all there is to
//! know. The backend asks for it once a second and after each error, and talks to each server
//! directly. The client library's own cluster connection would send `WAIT` and `CONFIG` to servers
//! that do not hold the event.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, aio::ConnectionManagerConfig};
use tokio::sync::{Notify, watch as channel};

use super::{InboxError, format::User, keys::Keys};
use crate::{
    config::{self, Durability, Topology},
    tls,
};

mod checks;
mod cluster;
mod confirm;
mod fitness;
mod formats;
mod layout;
mod link;
mod proven;
mod requirements;
mod server;
mod watch;

pub(super) use formats::unfit;
pub(super) use requirements::{Requirements, value_of};
pub(super) use server::{Server, Side};

use checks::Checks;
use cluster::Slots;
use confirm::{Confirmation, Needed};
use formats::Formats;
use layout::Layout;
use server::{CONNECT_TIMEOUT, Settings};

/// The servers, and which of them holds which partition.
pub(super) struct Servers {
    topology: Topology,
    /// The name of the primary that sentinels are asked for.
    primary_name: String,
    /// The servers in the configuration: the only one, the sentinels, or some of the cluster's.
    named: Vec<Arc<Server>>,
    /// The credentials for all servers but sentinels.
    login: RedisConnectionInfo,
    settings: Settings,
    slots: Slots,
    layout: channel::Sender<Arc<Layout>>,
    refresh: Notify,
}

/// The maximum number of servers of a cluster that are asked besides those in the configuration.
const MAX_ASKED: usize = 3;

impl Servers {
    /// Finds out which servers there are, and makes sure that they answer.
    ///
    /// # Errors
    /// Returns [`InboxError::NotReady`] if no server in the configuration answers,
    /// [`InboxError::Topology`] if they do not form the topology in the configuration.
    pub(super) async fn connect(
        config: &config::Redis,
        keys: &Keys,
        user: User,
        store_timeout: Duration,
        retention: Duration,
    ) -> Result<Self, InboxError> {
        tls::prepare();
        let settings = settings(config, keys, user, store_timeout, retention);
        let mut named = Vec::new();
        let mut login = RedisConnectionInfo::default();
        for url in config.urls() {
            let info = url.into_connection_info()?;
            login = info.redis_settings().clone();
            named.push(Arc::new(Server::new(with_login(info, config), &settings)?));
        }
        let mut servers = Self {
            topology: config.topology,
            primary_name: config.sentinel_primary.clone(),
            named,
            login,
            settings,
            slots: Slots::default(),
            layout: channel::Sender::new(Arc::new(Layout::empty())),
            refresh: Notify::new(),
        };
        // Collected here and below, since a future that contains a closure would not be `Send`.
        let questions: Vec<_> = servers.named.iter().map(|server| server.ensure_answers()).collect();
        first_answer(questions).await?;
        if config.topology == Topology::Cluster {
            let questions: Vec<_> = servers.named.iter().map(|server| cluster::slots_of(server, keys)).collect();
            servers.slots = first_answer(questions).await?;
        }
        let places = keys.partitions() as usize + 1;
        let layout = servers.query_layout(places).await?;
        servers.layout.send_replace(Arc::new(layout));
        Ok(servers)
    }

    /// Returns the server of a partition.
    pub(super) fn of_partition(&self, partition: u32) -> Arc<Server> {
        Arc::clone(self.layout.borrow().of_partition(partition))
    }

    /// Returns the server of the keys that belong to no partition.
    pub(super) fn of_common(&self) -> Arc<Server> {
        Arc::clone(self.layout.borrow().of_common())
    }

    /// Returns the servers that hold something, each of them once, by address.
    pub(super) fn all(&self) -> BTreeMap<String, Arc<Server>> {
        self.layout.borrow().iter().map(|server| (server.address(), Arc::clone(server))).collect()
    }

    /// Returns a receiver that is notified when a partition moves to another server.
    pub(super) fn changes(&self) -> channel::Receiver<Arc<Layout>> {
        self.layout.subscribe()
    }

    /// Asks for the layout soon, because a command failed: a partition may have moved.
    pub(super) fn refresh_layout_soon(&self) {
        self.refresh.notify_one();
    }

    /// Replaces the connections of all servers, because a command got no answer.
    pub(super) fn replace_connections(&self) {
        for server in self.all().into_values() {
            server.replace_connection();
        }
    }

    async fn query_layout(&self, places: usize) -> Result<Layout, InboxError> {
        match self.topology {
            Topology::Single => Ok(Layout::single(&self.named[0], places)),
            Topology::Sentinel => {
                let questions: Vec<_> = self.named.iter().map(|sentinel| self.query_primary(sentinel)).collect();
                let address = first_answer(questions).await?;
                let layout = self.layout_at(&vec![address; places])?;
                layout.of_common().ensure_primary().await?;
                Ok(layout)
            }
            Topology::Cluster => {
                let mut asked: Vec<_> = self.all().into_values().collect();
                fastrand::shuffle(&mut asked);
                asked.truncate(MAX_ASKED);
                asked.extend(self.named.iter().cloned());
                self.layout_at(&self.slots.locate(&asked).await?)
            }
        }
    }

    async fn query_primary(&self, sentinel: &Server) -> Result<ConnectionAddr, InboxError> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.primary_name);
        let answer: Option<(String, u16)> = sentinel.ask(ask.query_async(&mut sentinel.connection())).await?;
        match answer {
            Some((host, port)) => Ok(sentinel.neighbour(Some(host), port)),
            None => Err(InboxError::Topology(format!(
                "the sentinels do not know the primary `{}`: set `redis.sentinel_primary` to the name they monitor",
                self.primary_name
            ))),
        }
    }

    fn layout_at(&self, addresses: &[ConnectionAddr]) -> Result<Layout, InboxError> {
        Layout::at(addresses, self.all(), |address| {
            let info = address.clone().into_connection_info()?.set_redis_settings(self.login.clone());
            Ok(Server::new(info, &self.settings)?)
        })
    }
}

fn settings(config: &config::Redis, keys: &Keys, user: User, store_timeout: Duration, retention: Duration) -> Settings {
    let needed = match config.durability {
        Durability::Fsync => Some(Needed::Disk),
        Durability::Replicas(replicas) => Some(Needed::Replicas(replicas)),
        Durability::Memory => None,
    };
    Settings {
        manager: ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Each caller has a timeout of its own.
            .set_response_timeout(None)
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_millis(500)),
        confirmation: needed.map(|needed| Confirmation { needed, retention }),
        checks: Checks {
            requirements: config.check_server.then(|| Requirements::of(config, store_timeout)),
            formats: Formats { keys: keys.clone(), user, timeout: store_timeout },
        },
    }
}

/// Sentinels have a password of their own, or none; all other servers have the credentials in the
/// URL.
fn with_login(info: ConnectionInfo, config: &config::Redis) -> ConnectionInfo {
    if config.topology != Topology::Sentinel {
        return info;
    }
    let password = config.sentinel_password.reveal();
    let login = RedisConnectionInfo::default();
    info.set_redis_settings(if password.is_empty() { login } else { login.set_password(password) })
}

/// Asks one server after the other, and returns the first answer, or the last error.
async fn first_answer<T, F>(questions: impl IntoIterator<Item = F>) -> Result<T, InboxError>
where
    F: Future<Output = Result<T, InboxError>>,
{
    let mut last_error = InboxError::Topology("`redis.url` names no server".to_owned());
    for question in questions {
        match question.await {
            Ok(answer) => return Ok(answer),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn the_first_answer_counts_and_otherwise_the_last_error() {
        let failed = |number| Err(InboxError::UnknownAnswer(number));
        for (answers, expected) in [
            (vec![Ok(1), Ok(2)], Ok(1)),
            (vec![failed(1), Ok(2), failed(3)], Ok(2)),
            (vec![failed(1), failed(2)], Err("a script in Redis gave the unknown answer 2".to_owned())),
            (vec![], Err("`redis.url` names no server".to_owned())),
        ] {
            let answer = first_answer(answers.into_iter().map(ready)).await;
            assert_eq!(answer.map_err(|error| error.to_string()), expected);
        }
    }
}
