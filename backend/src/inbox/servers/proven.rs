//! The connection that one side stores over: used only after the server has proved, over this very connection, that it
//! does what it should.
//!
//! A connection is to one process. What that one was asked about itself says nothing about another that takes its place on
//! the same address, perhaps with other settings: so nothing is stored over a new connection before it was asked again.
//! The client library's `ConnectionManager` connects anew by itself and offers no moment in between, hence a holder of our own.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{Client, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{fitness::Fitness, server::CONNECT_TIMEOUT};
use crate::inbox::{InboxError, server_check::Requirements};

/// Keeps a connection to one server. After it has failed a task makes another one.
pub(in crate::inbox) struct Proven(Arc<Holder>);

struct Holder {
    client: Client,
    requirements: Option<Requirements>,
    fitness: Arc<Fitness>,
    state: watch::Sender<State>,
}

/// A connection over which the server has proved itself.
pub(in crate::inbox) struct Storing {
    pub(in crate::inbox) connection: MultiplexedConnection,
    /// Whether what the server has answered is on its disk.
    syncs_always: AtomicBool,
}

#[derive(Clone)]
enum State {
    /// Nobody has asked for a connection yet.
    Unused,
    /// A task connects. So many attempts have failed since it began; and why the last one did.
    Connecting(u64, Option<InboxError>),
    Ready(Arc<Storing>),
}

/// How long to wait after an attempt to connect that failed: doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Storing {
    /// Whether what the server has answered is on its disk.
    pub(in crate::inbox) fn syncs_always(&self) -> bool {
        self.syncs_always.load(Ordering::Relaxed)
    }

    pub(in crate::inbox) fn set_syncs_always(&self, syncs_always: bool) {
        self.syncs_always.store(syncs_always, Ordering::Relaxed);
    }
}

impl Proven {
    /// Where there are no requirements every server will do.
    pub(super) fn new(client: Client, requirements: Option<Requirements>, fitness: Arc<Fitness>) -> Self {
        Self(Arc::new(Holder { client, requirements, fitness, state: watch::Sender::new(State::Unused) }))
    }

    /// The connection. Where there is none, waits for the attempt to connect that is running, or for the next one.
    ///
    /// The task that connects runs in the runtime of the caller, and so does the connection.
    ///
    /// # Errors
    /// Why that attempt failed.
    pub(in crate::inbox) async fn connection(&self) -> Result<Arc<Storing>, InboxError> {
        if let Some(storing) = self.ready() {
            return Ok(storing);
        }
        let mut states = self.0.state.subscribe();
        self.connect_from(|state| matches!(state, State::Unused));
        let mut known = None;
        loop {
            match &*states.borrow_and_update() {
                State::Unused => {}
                State::Ready(storing) => return Ok(Arc::clone(storing)),
                State::Connecting(failed, error) => match (known, error) {
                    (Some(known), Some(error)) if known != *failed => return Err(error.clone()),
                    (None, _) => known = Some(*failed),
                    _ => {}
                },
            }
            // The sender lives as long as we do.
            _ = states.changed().await;
        }
    }

    /// The connection, if there is one now.
    pub(in crate::inbox) fn ready(&self) -> Option<Arc<Storing>> {
        match &*self.0.state.borrow() {
            State::Ready(storing) => Some(Arc::clone(storing)),
            _ => None,
        }
    }

    /// After an error on that connection after which it cannot be used any more.
    pub(in crate::inbox) fn discard(&self, used: &Arc<Storing>) {
        self.connect_from(|state| matches!(state, State::Ready(storing) if Arc::ptr_eq(storing, used)));
    }

    /// Starts to connect where the state is such.
    fn connect_from(&self, is_such: impl FnOnce(&State) -> bool) {
        let starts = self.0.state.send_if_modified(|state| {
            let starts = is_such(state);
            if starts {
                *state = State::Connecting(0, None);
            }
            starts
        });
        if starts {
            tokio::spawn(keep_connecting(Arc::downgrade(&self.0)));
        }
    }
}

/// Until there is a connection, or nobody needs one any more.
async fn keep_connecting(holder: Weak<Holder>) {
    let mut pause = FIRST_PAUSE;
    while let Some(holder) = holder.upgrade() {
        match holder.connect().await {
            Ok(storing) => {
                holder.state.send_replace(State::Ready(Arc::new(storing)));
                return;
            }
            Err(error) => {
                let error = Some(error);
                holder.state.send_modify(|state| {
                    let failed = if let State::Connecting(failed, _) = state { *failed } else { 0 };
                    *state = State::Connecting(failed + 1, error);
                });
            }
        }
        drop(holder);
        // Jitter, so that not all connect at the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Holder {
    async fn connect(&self) -> Result<Storing, InboxError> {
        let settings = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Whoever asks has a timeout of its own.
            .set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&settings);
        let mut connection = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connection) => connection?,
            Err(_) => return Err(InboxError::Timeout(CONNECT_TIMEOUT)),
        };
        let syncs_always = self.prove(&mut connection).await?;
        Ok(Storing { connection, syncs_always: AtomicBool::new(syncs_always) })
    }

    /// Returns whether what the server has answered is on its disk.
    async fn prove(&self, connection: &mut MultiplexedConnection) -> Result<bool, InboxError> {
        #[cfg(feature = "mutations")]
        if crate::mutation::current() == Some(crate::mutation::Mutation::Fitness) {
            return Ok(true);
        }
        let Some(requirements) = &self.requirements else { return Ok(false) };
        let address = self.client.get_connection_info().addr().to_string();
        let proof = requirements.check(&address, connection).await;
        self.fitness.note(&proof);
        proof.map(|proof| proof.syncs_always)
    }
}
