//! A TCP proxy that simulates a failing network: it stands between two programs and breaks the
//! connections between them.
//!
//! Data that a [`Fault`] holds back is not lost. It passes once the proxy is healed, just as TCP
//! retransmits after a network partition. A connection that was reset is closed for both sides.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use crate::process::free_port;

/// A running proxy. It stops when dropped, and closes all connections.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    _server: AbortOnDropHandle<()>,
}

/// A failure of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections are accepted, and no data passes in either direction.
    Stalled,
    /// Requests pass, answers do not.
    AnswersCut,
    /// Answers pass, requests do not.
    RequestsCut,
    /// Each piece of data passes after this delay.
    Delayed(Duration),
    /// Every connection is reset (RST); new ones as soon as they are accepted.
    Reset,
    /// Open connections are reset, and new ones are refused.
    Rejected,
}

impl Fault {
    /// The fault's name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::AnswersCut => "answers cut",
            Self::RequestsCut => "requests cut",
            Self::Delayed(_) => "delayed",
            Self::Reset => "reset",
            Self::Rejected => "refused",
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Network {
    fault: Option<Fault>,
    /// How often all connections were reset. A connection that was opened before the last reset is
    /// reset even if the proxy was healed before the connection's task noticed the fault.
    resets: u64,
    /// How often all connections were frozen. A connection that was opened before the last freeze
    /// stays open for good, and no data passes.
    freezes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// The buffer of each direction of a connection, in bytes.
const PIECE: usize = 64 << 10;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

impl Proxy {
    /// Starts a proxy to `upstream` on a free port of the loopback interface. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        // A socket that is bound but never listens keeps the port reserved while new connections
        // are refused.
        let reserved = bind(([127, 0, 0, 1], free_port()?).into())?;
        let address = reserved.local_addr()?;
        let listener = listen(address)?;
        let network = watch::Sender::new(Network::default());
        let server = tokio::spawn(serve(reserved, listener, upstream, network.subscribe()));
        Ok(Self { address, network, _server: AbortOnDropHandle::new(server) })
    }

    /// The proxy's address, to be used in place of its upstream's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the network fail. A previous fault ends.
    pub fn fail(&self, fault: Fault) {
        self.network.send_modify(|network| {
            network.fault = Some(fault);
            network.resets += u64::from(matches!(fault, Fault::Reset | Fault::Rejected));
        });
    }

    /// Freezes the open connections for good: they stay open, and no data passes. New connections
    /// work. A load balancer or sidecar behaves in this way when its own upstream has vanished.
    pub fn freeze(&self) {
        self.network.send_modify(|network| network.freezes += 1);
    }

    /// Ends the fault.
    pub fn heal(&self) {
        self.network.send_modify(|network| network.fault = None);
    }
}

impl Network {
    fn refuses(&self) -> bool {
        self.fault == Some(Fault::Rejected)
    }

    fn passes(&self, direction: Direction) -> bool {
        match self.fault {
            None | Some(Fault::Delayed(_)) => true,
            Some(Fault::AnswersCut) => direction == Direction::Requests,
            Some(Fault::RequestsCut) => direction == Direction::Answers,
            Some(Fault::Stalled | Fault::Reset | Fault::Rejected) => false,
        }
    }

    fn delay(&self) -> Duration {
        match self.fault {
            Some(Fault::Delayed(delay)) => delay,
            _ => Duration::ZERO,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

async fn serve(
    _reserved: TcpSocket,
    listener: TcpListener,
    upstream: SocketAddr,
    mut network: watch::Receiver<Network>,
) {
    let mut connections = JoinSet::new();
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    loop {
        let Some(listening) = &listener else {
            if until(&mut network, |network| !network.refuses()).await.is_err() {
                return;
            }
            listener = listen(address).ok();
            continue;
        };
        tokio::select! {
            accepted = listening.accept() => {
                // An error here concerns only one connection.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(relay(client, upstream, network.clone()));
            }
            refuses = until(&mut network, Network::refuses) => {
                if refuses.is_err() {
                    return;
                }
                listener = None;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until both sides have closed it, one of them has failed, or the network
/// resets it.
async fn relay(mut client: TcpStream, upstream: SocketAddr, mut network: watch::Receiver<Network>) {
    let opened = *network.borrow();
    let mut server = None;
    let mut passing = network.clone();
    let relayed = async {
        until(&mut passing, |network| network.passes(Direction::Requests)).await?;
        let server = server.insert(TcpStream::connect(upstream).await?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::try_join!(
            forward(from_client, to_server, Direction::Requests, passing.clone()),
            forward(from_server, to_client, Direction::Answers, passing),
        )
    };
    let is_reset = |now: &Network| now.resets > opened.resets || now.fault == Some(Fault::Reset);
    let is_frozen = |now: &Network| now.freezes > opened.freezes;
    let is_whole = tokio::select! {
        relayed = relayed => relayed.is_ok(),
        ended = until(&mut network, |now| is_reset(now) || is_frozen(now)) => match ended {
            Ok(now) if is_frozen(&now) => std::future::pending().await,
            _ => false,
        },
    };
    if !is_whole {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            // On an error, the stream is closed without RST.
            _ = stream.set_zero_linger();
        }
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        let delay = until(&mut network, |network| network.passes(direction)).await?.delay();
        if !delay.is_zero() {
            sleep(delay).await;
            until(&mut network, |network| network.passes(direction)).await?;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// Waits until `condition` is true of the network. Returns an error when the proxy has stopped.
async fn until(network: &mut watch::Receiver<Network>, condition: impl FnMut(&Network) -> bool) -> io::Result<Network> {
    let now = network.wait_for(condition).await.map(|network| *network);
    now.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

#[cfg(test)]
mod tests;
