//! The connection over which events are stored. It is used only after the server has proved, over
//! this very connection, that it is fit: it meets the requirements, and holds events in formats
//! that this backend may use.
//!
//! A connection leads to one process. What that process proved says nothing about another one that
//! takes its place at the same address, perhaps with other settings, so every new connection needs
//! a proof of its own. The client library's `ConnectionManager` reconnects by itself, without a
//! moment in which to ask for the proof, so this module has its own connector.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{Client, aio::MultiplexedConnection};
use tokio::{sync::watch, time::sleep};

use super::{checks::Checks, fitness::Fitness, server::CONNECT_TIMEOUT};
use crate::{
    inbox::{InboxError, error::within},
    mutation,
};

/// Keeps a proven connection to one server. After the connection fails, a task makes another one.
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    client: Client,
    checks: Checks,
    fitness: Arc<Fitness>,
    state: watch::Sender<State>,
}

/// A connection over which the server has proved that it is fit.
pub(in crate::inbox) struct ProvenConnection {
    pub(super) connection: MultiplexedConnection,
    syncs_always: AtomicBool,
}

#[derive(Clone)]
enum State {
    /// No connection was needed yet.
    Unused,
    /// A task is connecting.
    Connecting(Failures),
    Ready(Arc<ProvenConnection>),
}

/// The failed attempts to connect since the last connection was lost.
#[derive(Clone, Default)]
struct Failures {
    count: u64,
    last_error: Option<InboxError>,
}

/// The pause after a failed attempt to connect. It doubles with each failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl ProvenConnection {
    /// Returns whether an event is on the server's disk as soon as the server answers.
    pub(super) fn syncs_always(&self) -> bool {
        self.syncs_always.load(Ordering::Relaxed)
    }

    pub(super) fn set_syncs_always(&self, syncs_always: bool) {
        self.syncs_always.store(syncs_always, Ordering::Relaxed);
    }
}

impl Connector {
    /// Returns a connector that connects when it is first used.
    pub(super) fn new(client: Client, checks: Checks, fitness: Arc<Fitness>) -> Self {
        Self(Arc::new(Inner { client, checks, fitness, state: watch::Sender::new(State::Unused) }))
    }

    /// Returns the connection. If there is none, waits for the current attempt to connect.
    ///
    /// The task that connects runs in the runtime of the caller, and so does the connection.
    ///
    /// # Errors
    /// Returns the reason if that attempt fails.
    pub(super) async fn connection(&self) -> Result<Arc<ProvenConnection>, InboxError> {
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let mut states = self.0.state.subscribe();
        self.connect_if(|state| matches!(state, State::Unused));
        let mut earlier = None;
        loop {
            match &*states.borrow_and_update() {
                State::Unused => {}
                State::Ready(connection) => return Ok(Arc::clone(connection)),
                State::Connecting(Failures { count, last_error }) => match (earlier, last_error) {
                    (Some(earlier), Some(error)) if earlier != *count => return Err(error.clone()),
                    (None, _) => earlier = Some(*count),
                    _ => {}
                },
            }
            // Cannot fail: `self` owns the sender.
            _ = states.changed().await;
        }
    }

    /// Returns the connection if there is one now.
    pub(super) fn ready(&self) -> Option<Arc<ProvenConnection>> {
        match &*self.0.state.borrow() {
            State::Ready(connection) => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// Discards a connection that has failed, and starts to make another one.
    pub(super) fn discard(&self, failed: &Arc<ProvenConnection>) {
        self.connect_if(|state| matches!(state, State::Ready(connection) if Arc::ptr_eq(connection, failed)));
    }

    fn connect_if(&self, condition: impl FnOnce(&State) -> bool) {
        let starts = self.0.state.send_if_modified(|state| {
            let starts = condition(state);
            if starts {
                *state = State::Connecting(Failures::default());
            }
            starts
        });
        if starts {
            tokio::spawn(keep_connecting(Arc::downgrade(&self.0)));
        }
    }
}

/// Tries to connect until it succeeds or the connector is dropped.
async fn keep_connecting(connector: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    while let Some(connector) = connector.upgrade() {
        match connector.connect().await {
            Ok(connection) => {
                connector.state.send_replace(State::Ready(Arc::new(connection)));
                return;
            }
            Err(error) => connector.state.send_modify(|state| {
                let earlier = if let State::Connecting(failures) = state { failures.count } else { 0 };
                *state = State::Connecting(Failures { count: earlier + 1, last_error: Some(error) });
            }),
        }
        drop(connector);
        // Jitter, so that not all backends connect at the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Inner {
    async fn connect(&self) -> Result<ProvenConnection, InboxError> {
        let settings = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Each caller has a timeout of its own.
            .set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&settings);
        let mut connection = within(CONNECT_TIMEOUT, connecting).await?;
        let syncs_always = self.prove(&mut connection).await?;
        Ok(ProvenConnection { connection, syncs_always: AtomicBool::new(syncs_always) })
    }

    /// Returns whether an event is on the server's disk as soon as the server answers.
    async fn prove(&self, connection: &mut MultiplexedConnection) -> Result<bool, InboxError> {
        mutation::instead!(Fitness => Ok(true));
        let address = self.client.get_connection_info().addr().to_string();
        let check = self.checks.run(&address, connection).await;
        self.fitness.note(&check);
        check.map(|proof| proof.syncs_always)
    }
}
