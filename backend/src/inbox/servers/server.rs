//! One Redis server, and the backend's connections to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Client, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tokio::time::{Instant, timeout};

use super::{
    checks::Checks,
    confirm::{Confirmation, Confirmer},
    fitness::{self, Fitness},
    link::Link,
    proven::Connector,
};
use crate::inbox::{
    InboxError,
    error::{is_temporary, within},
};

/// One Redis server.
pub(in crate::inbox) struct Server {
    client: Client,
    ingest: Link,
    work: Link,
    /// For commands that neither store an event nor block.
    managed: Mutex<Managed>,
    settings: Settings,
    fitness: Arc<Fitness>,
}

/// What all servers have in common.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) manager: ConnectionManagerConfig,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) checks: Checks,
}

/// Who stores an event.
///
/// The ingest has a thread of its own, so its connections belong to that thread as well. Otherwise
/// each event would wake another thread, and events stored at the same time would not share a
/// packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) enum Side {
    Ingest,
    /// The reconciler and the command line.
    Work,
}

/// A connection that reconnects once it is known to be lost.
struct Managed {
    connection: ConnectionManager,
    since: Instant,
}

/// How long connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may stay unacknowledged before the kernel closes the connection. By default
/// it would use a connection to a vanished machine for a quarter of an hour.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// A younger connection is not replaced, so that many simultaneous timeouts replace a connection
/// only once.
const MIN_AGE_TO_REPLACE: Duration = Duration::from_secs(1);
/// How long a server may take to answer a question about itself or other servers.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);

impl Server {
    /// Returns a server. Each connection to it is made when it is first needed.
    ///
    /// # Errors
    /// If `info` does not describe a server.
    pub(super) fn new(info: ConnectionInfo, settings: &Settings) -> Result<Self, RedisError> {
        // Without TCP_NODELAY, commands that are sent while an answer is on its way share a packet,
        // which saves 1 to 2 µs for each event.
        let tcp = TcpSettings::default().set_user_timeout(TCP_USER_TIMEOUT);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let fitness = Arc::new(Fitness::new(client.get_connection_info().addr().to_string()));
        let link = || {
            let connector = Connector::new(client.clone(), settings.checks.clone(), Arc::clone(&fitness));
            let confirmer = |confirmation| Confirmer::new(client.clone(), settings.manager.clone(), confirmation);
            Link::new(connector, settings.confirmation.map(confirmer))
        };
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings.manager.clone())?;
        Ok(Self {
            ingest: link(),
            work: link(),
            managed: Mutex::new(Managed { connection, since: Instant::now() }),
            settings: settings.clone(),
            client,
            fitness,
        })
    }

    /// Returns the server's address, for messages.
    pub(in crate::inbox) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Makes sure that the server has not been proved unfit.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if the server was last proved unfit.
    pub(in crate::inbox) fn ensure_fit(&self) -> Result<(), InboxError> {
        self.fitness.ensure()
    }

    /// Returns whether the server was last proved to hold a newer format that excludes this backend.
    pub(in crate::inbox) fn excludes(&self) -> bool {
        self.fitness.excludes()
    }

    /// Checks whether the server is fit, over each connection over which events are stored, since
    /// they may lead to different processes.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if the server is not fit, another error if that is unknown.
    pub(in crate::inbox) async fn check(&self) -> Result<(), InboxError> {
        let checks = &self.settings.checks;
        let address = self.address();
        let mut combined = None;
        for link in [&self.ingest, &self.work] {
            let Some(proven) = link.ready() else { continue };
            let check = checks.run(&address, &mut proven.connection.clone()).await;
            if let Ok(proof) = &check {
                proven.set_syncs_always(proof.syncs_always);
            }
            combined = Some(match combined {
                Some(earlier) => fitness::combine(earlier, check),
                None => check,
            });
        }
        let check = match combined {
            Some(check) if fitness::proves_something(&check) => check,
            // No event has been stored yet, or these connections are lost and nobody has noticed.
            _ => checks.run(&address, &mut self.connection()).await,
        };
        self.fitness.note(&check);
        check.map(drop)
    }

    /// Returns what a side needs to store events.
    pub(in crate::inbox) fn link(&self, side: Side) -> &Link {
        match side {
            Side::Ingest => &self.ingest,
            Side::Work => &self.work,
        }
    }

    /// Returns the connection for commands that neither store an event nor block.
    pub(in crate::inbox) fn connection(&self) -> ConnectionManager {
        self.managed().connection.clone()
    }

    /// Replaces the connection after a command that got no answer.
    ///
    /// Behind a load balancer or a sidecar, a connection may stay open after the server has
    /// vanished, and the kernel does not notice.
    pub(in crate::inbox) fn replace_connection(&self) {
        let mut managed = self.managed();
        if managed.since.elapsed() < MIN_AGE_TO_REPLACE {
            return;
        }
        let settings = self.settings.manager.clone();
        if let Ok(connection) = ConnectionManager::new_lazy_with_config(self.client.clone(), settings) {
            *managed = Managed { connection, since: Instant::now() };
        }
    }

    fn managed(&self) -> MutexGuard<'_, Managed> {
        self.managed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a new connection, for a command that blocks.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub(in crate::inbox) async fn dedicated_connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let settings = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&settings).await
    }

    /// Returns the address of another server that is reached like this one, with or without TLS.
    /// Without a host, the other server is on the same host.
    pub(super) fn neighbour(&self, host: Option<String>, port: u16) -> ConnectionAddr {
        match (self.client.get_connection_info().addr(), host) {
            (ConnectionAddr::TcpTls { host: own, insecure, .. }, host) => {
                let host = host.unwrap_or_else(|| own.clone());
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
            }
            (_, Some(host)) => ConnectionAddr::Tcp(host, port),
            (ConnectionAddr::Tcp(own, _), None) => ConnectionAddr::Tcp(own.clone(), port),
            (_, None) => ConnectionAddr::Tcp(String::new(), port),
        }
    }

    /// Makes sure, at start, that a server from the configuration answers.
    ///
    /// # Errors
    /// Returns [`InboxError::NotReady`] if it does not answer or is loading its data,
    /// [`InboxError::Topology`] if it answers with another error.
    pub(super) async fn ensure_answers(&self) -> Result<(), InboxError> {
        let mut connection = self.connection();
        let address = self.address();
        match timeout(CONNECT_TIMEOUT, redis::cmd("PING").exec_async(&mut connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let problem = format!("cannot use Redis at {address}, which `redis.url` names: {error}");
                Err(if is_temporary(&error) { InboxError::NotReady(problem) } else { InboxError::Topology(problem) })
            }
            Err(_) => Err(InboxError::NotReady(format!(
                "Redis at {address}, which `redis.url` names, did not answer within {CONNECT_TIMEOUT:?}"
            ))),
        }
    }

    /// Makes sure that the server knows that it is the primary. A sentinel may name it before it
    /// knows.
    ///
    /// # Errors
    /// Returns [`InboxError::NotPrimary`] if it is not the primary, another error if it does not
    /// answer.
    pub(super) async fn ensure_primary(&self) -> Result<(), InboxError> {
        let role: Vec<redis::Value> = self.ask(redis::cmd("ROLE").query_async(&mut self.connection())).await?;
        match role.into_iter().next().map(String::from_redis_value) {
            Some(Ok(role)) if role == "master" => Ok(()),
            _ => Err(InboxError::NotPrimary(self.address())),
        }
    }

    /// Waits for the answer to a question about servers, but not longer than a second.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) async fn ask<T>(&self, question: impl Future<Output = Result<T, RedisError>>) -> Result<T, InboxError> {
        let answer = within(QUESTION_TIMEOUT, question).await;
        if let Err(InboxError::Timeout(_)) = answer {
            self.replace_connection();
        }
        answer
    }
}
