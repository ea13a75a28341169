//! `backend serve`.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    config::Config,
    handler::Handlers,
    inbox::{Inbox, InboxError},
    partner_api::PartnerApi,
    reload::Reload,
    server::{self, Listeners},
    sink, traces,
};

/// The pause before Redis is asked again at start.
const PAUSE: Duration = Duration::from_millis(500);
/// How many connections may wait until they are accepted.
const BACKLOG: u32 = 1024;

/// Runs the backend until SIGTERM or SIGINT.
pub(super) async fn run(
    config: Config,
    reload: io::Result<Option<Reload>>,
    extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers,
) -> anyhow::Result<()> {
    let reload = reload?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    raise_limit_of_open_files();
    sink::warn_if_unsigned(&config.sink);
    let ingest = Reserved::bind("ingest.listen", &config.ingest.listen)?;
    let admin = Reserved::bind("admin.listen", &config.admin.listen)?;
    let listen = &config.console.listen;
    let console = if listen.is_empty() { None } else { Some(Reserved::bind("console.listen", listen)?) };
    let Some(inbox) = shutdown.run_until_cancelled(connect(&config)).await else { return Ok(()) };
    let console = console.map(Reserved::listen).transpose()?;
    let listeners = Listeners { ingest: ingest.listen()?, admin: admin.listen()?, console };
    let ran = server::run(config, inbox?, extend, listeners, reload, shutdown).await;
    traces::stop().await;
    ran
}

/// An address on which the backend does not listen yet. While it waits for Redis, connections are
/// refused, and Envoy tries another backend at once.
struct Reserved {
    socket: TcpSocket,
    /// For errors: the address, and the setting that names it.
    name: String,
}

impl Reserved {
    fn bind(setting: &str, address: &str) -> anyhow::Result<Self> {
        let name = format!("{address} (`{setting}`)");
        let bind = || {
            let address: SocketAddr = address.parse()?;
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Otherwise the port of a backend that has just stopped could not be used again.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            anyhow::Ok(socket)
        };
        let socket = bind().with_context(|| cannot_listen(&name))?;
        Ok(Self { socket, name })
    }

    /// Fails if another program began to listen on the address after it was bound, which
    /// `SO_REUSEADDR` permits.
    fn listen(self) -> anyhow::Result<TcpListener> {
        self.socket.listen(BACKLOG).with_context(|| cannot_listen(&self.name))
    }
}

fn cannot_listen(name: &str) -> String {
    format!("cannot listen on {name}")
}

/// Connects to Redis. Waits for at most `redis.start_timeout_ms` while Redis cannot be reached, is
/// still loading its data, is not yet the primary, or lacks replicas, as after a restart of the whole
/// machine.
async fn connect(config: &Config) -> Result<Inbox, InboxError> {
    let limit = config.redis.start_timeout;
    let deadline = Instant::now() + limit;
    let mut has_warned = false;
    loop {
        match Inbox::connect(config).await {
            Err(error) if error.is_temporary() && Instant::now() < deadline => {
                if !has_warned {
                    warn!(%error, "waiting for Redis for up to {limit:?} (`redis.start_timeout_ms`)");
                    has_warned = true;
                }
            }
            connected => return connected,
        }
        sleep(PAUSE).await;
    }
}

/// Raises the limit of open files as far as the system allows. Each connection takes one, and the
/// limit that container engines set by default may be as low as 1,024.
fn raise_limit_of_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_while_the_backend_waits_is_reported_with_its_setting() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let [first, second] = ["admin.listen", "ingest.listen"].map(|setting| Reserved::bind(setting, &address));
        let _listener = first.unwrap().listen().unwrap();
        let error = format!("{:#}", second.unwrap().listen().unwrap_err());
        assert!(error.starts_with(&format!("cannot listen on {address} (`ingest.listen`): ")), "{error}");
    }
}
