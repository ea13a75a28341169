//! One Redis server, and our connections to it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use redis::{
    Client, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tokio::{sync::watch, time::timeout};

use crate::inbox::{
    InboxError,
    confirm::{Confirmer, Demand},
};

/// One server.
pub(in crate::inbox) struct Server {
    pub(super) client: Client,
    ingest: Link,
    work: Link,
    /// Whether what the server has answered is on its disk.
    syncs_always: AtomicBool,
    /// What it does not do as it should, where that is known.
    unfit: watch::Sender<Option<String>>,
}

/// Who stores. The ingest has a thread of its own, and so do its connections: another thread would have to be woken for
/// each event, and what is stored at the same time would not go out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) enum Side {
    Ingest,
    /// The reconciler, and the command line.
    Work,
}

/// What is needed to store.
pub(in crate::inbox) struct Link {
    pub(in crate::inbox) connection: ConnectionManager,
    /// Waits until what was stored is where it has to be, where that is not so by itself.
    confirmer: Option<Confirmer>,
}

/// How long to wait for a first connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which so long nothing of what we sent was acknowledged is to a machine that is gone. Without this it
/// would be used until the kernel gives it up, a quarter of an hour later.
const UNHEARD: Duration = Duration::from_secs(5);
/// How long a server may take to say what it is asked about itself or others.
const ASKING: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn new(
        info: ConnectionInfo,
        manager: &ConnectionManagerConfig,
        demand: Option<Demand>,
    ) -> Result<Self, RedisError> {
        // Without TCP_NODELAY what is asked while an answer is on its way goes out together: 1 to 2 µs less for each event.
        let tcp = TcpSettings::default().set_user_timeout(UNHEARD);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let connect = || ConnectionManager::new_lazy_with_config(client.clone(), manager.clone());
        let link = || {
            let confirmer = demand.map(|demand| Ok::<_, RedisError>(Confirmer::new(connect()?, demand))).transpose()?;
            Ok::<_, RedisError>(Link { connection: connect()?, confirmer })
        };
        Ok(Self {
            ingest: link()?,
            work: link()?,
            client,
            syncs_always: AtomicBool::new(false),
            unfit: watch::Sender::default(),
        })
    }

    /// Its address, for people.
    pub(in crate::inbox) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Says what the server does not do as it should, and returns whether that is news.
    pub(in crate::inbox) fn set_unfit(&self, problem: Option<String>) -> bool {
        self.unfit.send_if_modified(|known| {
            let is_news = *known != problem;
            *known = problem;
            is_news
        })
    }

    /// Whether the server does what it should, as far as is known.
    pub(in crate::inbox) fn ensure_fit(&self) -> Result<(), InboxError> {
        self.unfit.borrow().clone().map_or(Ok(()), |problem| Err(InboxError::Server(problem)))
    }

    /// What that side stores with.
    pub(in crate::inbox) fn link(&self, side: Side) -> &Link {
        match side {
            Side::Ingest => &self.ingest,
            Side::Work => &self.work,
        }
    }

    /// For all commands that do not block, but those of the ingest.
    pub(in crate::inbox) fn connection(&self) -> ConnectionManager {
        self.work.connection.clone()
    }

    /// Waits until what was stored over a link with the key `seen` is where it has to be.
    pub(in crate::inbox) async fn confirm(&self, link: &Link, seen: String) -> Result<(), InboxError> {
        match &link.confirmer {
            Some(confirmer) if !self.syncs_always.load(Ordering::Relaxed) => confirmer.confirm(seen).await,
            _ => Ok(()),
        }
    }

    /// Whether what the server has answered is on its disk, and nothing else is demanded.
    pub(in crate::inbox) fn set_syncs_always(&self, syncs_always: bool) {
        self.syncs_always.store(syncs_always, Ordering::Relaxed);
    }

    /// A connection of its own, for a command that blocks.
    pub(in crate::inbox) async fn dedicated_connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let settings = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&settings).await
    }

    /// The address of another server that is talked to as this one is: over TLS or not.
    pub(super) fn neighbour(&self, host: String, port: u16) -> ConnectionAddr {
        match self.client.get_connection_info().addr() {
            &ConnectionAddr::TcpTls { insecure, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }

    /// At start, for one of those in the configuration.
    pub(super) async fn ensure_answers(&self) -> Result<(), InboxError> {
        let mut connection = self.connection();
        let address = self.address();
        match timeout(CONNECT_TIMEOUT, redis::cmd("PING").exec_async(&mut connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(InboxError::Server(format!("cannot use Redis at {address}, which `redis.url` names: {error}")))
            }
            Err(_) => Err(InboxError::Server(format!(
                "Redis at {address}, which `redis.url` names, did not answer within {CONNECT_TIMEOUT:?}"
            ))),
        }
    }

    /// A sentinel may name a server that does not know yet that it is the primary.
    pub(super) async fn ensure_primary(&self) -> Result<(), InboxError> {
        let role: Vec<redis::Value> = self.ask(redis::cmd("ROLE").query_async(&mut self.connection())).await?;
        match role.into_iter().next().map(String::from_redis_value) {
            Some(Ok(role)) if role == "master" => Ok(()),
            _ => Err(InboxError::Server(format!("Redis at {} is not the primary", self.address()))),
        }
    }

    pub(super) async fn ask<T>(&self, question: impl Future<Output = Result<T, RedisError>>) -> Result<T, InboxError> {
        match timeout(ASKING, question).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(InboxError::Timeout(ASKING)),
        }
    }
}
