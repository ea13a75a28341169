//! One Redis server, and our connections to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tokio::time::{Instant, timeout};

use super::{
    fitness::Fitness,
    proven::{Proven, Storing},
};
use crate::inbox::{
    InboxError,
    confirm::{Confirmer, Demand},
    scripts,
    server_check::Requirements,
};

/// One server.
pub(in crate::inbox) struct Server {
    pub(super) client: Client,
    ingest: Link,
    work: Link,
    /// For all that neither stores an event nor blocks.
    manager: Mutex<Managed>,
    settings: ConnectionManagerConfig,
    fitness: Arc<Fitness>,
    requirements: Option<Requirements>,
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
    proven: Proven,
    /// Waits until what was stored is where it has to be, where that is not so by itself.
    confirmer: Option<Confirmer>,
}

/// A connection that connects anew by itself once it is known to be lost, and when it was made.
struct Managed {
    connection: ConnectionManager,
    since: Instant,
}

/// Stands for a script that runs over a connection. Dropped long before the answer it takes the connection out of use:
/// whoever waited has given up, and the next one should not wait for the same connection.
struct Unanswered<'a> {
    proven: &'a Proven,
    storing: Option<Arc<Storing>>,
    since: Instant,
}

/// How long to wait for a first connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which so long nothing of what we sent was acknowledged is to a machine that is gone. Without this it
/// would be used until the kernel gives it up, a quarter of an hour later.
const UNHEARD: Duration = Duration::from_secs(5);
/// A connection that is younger is not replaced, so that many that time out together replace it once.
const YOUNG: Duration = Duration::from_secs(1);
/// A script that was given up sooner says nothing of its connection: perhaps only the client of the ingest is gone.
const SOON: Duration = Duration::from_millis(200);
/// How long a server may take to say what it is asked about itself or others.
const ASKING: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn new(
        info: ConnectionInfo,
        settings: &ConnectionManagerConfig,
        demand: Option<Demand>,
        requirements: Option<Requirements>,
    ) -> Result<Self, RedisError> {
        // Without TCP_NODELAY what is asked while an answer is on its way goes out together: 1 to 2 µs less for each event.
        let tcp = TcpSettings::default().set_user_timeout(UNHEARD);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let connect = || ConnectionManager::new_lazy_with_config(client.clone(), settings.clone());
        let fitness = Arc::new(Fitness::new(client.get_connection_info().addr().to_string()));
        let link = || {
            let confirmer = demand.map(|demand| Confirmer::new(client.clone(), settings.clone(), demand));
            let proven = Proven::new(client.clone(), requirements, Arc::clone(&fitness));
            Link { proven, confirmer }
        };
        let manager = Mutex::new(Managed { connection: connect()?, since: Instant::now() });
        Ok(Self { ingest: link(), work: link(), manager, settings: settings.clone(), client, fitness, requirements })
    }

    /// Its address, for people.
    pub(in crate::inbox) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Whether the server does what it should, as far as it has been proved.
    pub(in crate::inbox) fn ensure_fit(&self) -> Result<(), InboxError> {
        self.fitness.ensure()
    }

    /// Asks the server again whether it does what it should, over each connection that is stored over: they could be to
    /// different processes.
    ///
    /// # Errors
    /// What it does not do as it should, or why that is not known.
    pub(in crate::inbox) async fn check(&self) -> Result<(), InboxError> {
        let Some(requirements) = self.requirements else { return Ok(()) };
        let address = self.address();
        let storing: Vec<_> = [&self.ingest, &self.work].into_iter().filter_map(|link| link.proven.ready()).collect();
        let mut checked = None;
        for storing in storing {
            let check = requirements.check(&address, &mut storing.connection.clone()).await;
            if let Ok(proof) = &check {
                storing.set_syncs_always(proof.syncs_always);
            }
            // One that is unfit counts more than one that is fit, and that more than one that did not answer.
            checked = match (checked, check) {
                (Some(Err(InboxError::Server(problem))), _) => Some(Err(InboxError::Server(problem))),
                (Some(Ok(proof)), Err(error)) if !matches!(error, InboxError::Server(_)) => Some(Ok(proof)),
                (_, check) => Some(check),
            };
        }
        let checked = match checked {
            Some(proved @ (Ok(_) | Err(InboxError::Server(_)))) => proved,
            // Nothing is stored over one, or they are lost and nobody has noticed yet.
            _ => requirements.check(&address, &mut self.connection()).await,
        };
        self.fitness.note(&checked);
        checked.map(drop)
    }

    /// What that side stores with.
    pub(in crate::inbox) fn link(&self, side: Side) -> &Link {
        match side {
            Side::Ingest => &self.ingest,
            Side::Work => &self.work,
        }
    }

    /// For all that neither stores an event nor blocks.
    pub(in crate::inbox) fn connection(&self) -> ConnectionManager {
        self.managed().connection.clone()
    }

    /// After a command that got no answer: the connection may be open to nobody, behind a load balancer or a sidecar whose own
    /// upstream has vanished, which the kernel does not notice. The next command goes over another connection.
    pub(in crate::inbox) fn replace_connection(&self) {
        let mut managed = self.managed();
        if managed.since.elapsed() < YOUNG {
            return;
        }
        if let Ok(connection) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.settings.clone()) {
            *managed = Managed { connection, since: Instant::now() };
        }
    }

    fn managed(&self) -> MutexGuard<'_, Managed> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
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
            Err(_) => {
                self.replace_connection();
                Err(InboxError::Timeout(ASKING))
            }
        }
    }
}

impl Link {
    /// Runs a script that stores, and that may run twice: where the connection turns out to be lost it runs once more, over
    /// another one. Returns the connection too, for [`Self::confirm`].
    ///
    /// # Errors
    /// Where the server cannot be reached, is not proven to do what it should, or refuses.
    pub(in crate::inbox) async fn store(&self, script: &Script, call: &Cmd) -> Result<(Arc<Storing>, i64), InboxError> {
        let mut is_repeated = false;
        loop {
            let storing = self.proven.connection().await?;
            let mut unanswered =
                Unanswered { proven: &self.proven, storing: Some(Arc::clone(&storing)), since: Instant::now() };
            let answer = scripts::run(script, call, &mut storing.connection.clone()).await;
            unanswered.storing = None;
            match answer {
                Ok(answer) => return Ok((storing, answer)),
                Err(error) => {
                    let is_lost = error.is_unrecoverable_error();
                    if is_lost {
                        self.proven.discard(&storing);
                    }
                    if !is_lost || is_repeated {
                        return Err(error.into());
                    }
                }
            }
            is_repeated = true;
        }
    }

    /// Waits until what was stored over that connection with the key `seen` is where it has to be, until `deadline` at most.
    ///
    /// # Errors
    /// Where it is not known to be there.
    pub(in crate::inbox) async fn confirm(
        &self,
        storing: &Storing,
        seen: String,
        deadline: Instant,
    ) -> Result<(), InboxError> {
        match &self.confirmer {
            Some(confirmer) if !storing.syncs_always() => confirmer.confirm(seen, deadline).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(storing) = self.storing.take().filter(|_| self.since.elapsed() >= SOON) {
            self.proven.discard(&storing);
        }
    }
}
