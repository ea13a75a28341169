//! A DNS server that gives the answers a test asks for, to show what happens when a name stops
//! resolving.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinHandle};

/// The answer to every query, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// The name does not exist.
    NxDomain,
    /// The server has failed.
    ServFail,
    /// The name exists and has no address.
    Empty,
    /// No answer at all.
    Silence,
}

/// A running DNS server on a UDP port of the loopback interface. It stops when dropped.
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    reply: Mutex<Reply>,
    queries: AtomicUsize,
}

const HEADER_LEN: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];
const CLASS_IN: [u8; 2] = [0, 1];
/// The time to live of each answer, in seconds: that of Docker's resolver, so that a test needs no
/// shorter one.
const TTL: u32 = 600;
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

impl DnsServer {
    /// Starts a server that answers with `reply`.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(reply: Reply) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared { reply: Mutex::new(reply), queries: AtomicUsize::new(0) });
        let task = tokio::spawn(serve(socket, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// The UDP port that the server listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the answer to all further queries, and resets their count.
    pub fn set(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
        self.shared.queries.store(0, Ordering::Relaxed);
    }

    /// The number of queries for an IPv4 address since the answer was last changed.
    pub fn queries(&self) -> usize {
        self.shared.queries.load(Ordering::Relaxed)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, shared: Arc<Shared>) {
    let mut packet = [0; 512];
    while let Ok((read, client)) = socket.recv_from(&mut packet).await {
        let Some(query) = Query::parse(&packet[..read]) else { continue };
        if query.is_for_ipv4() {
            shared.queries.fetch_add(1, Ordering::Relaxed);
        }
        let reply = shared.reply.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(answer) = query.answer(&reply) {
            // If the answer is lost, the resolver asks again.
            _ = socket.send_to(&answer, client).await;
        }
    }
}

/// One query: its header and its question, as they are in the packet.
struct Query<'a> {
    header: &'a [u8],
    question: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads a packet with one question; what follows it (EDNS options) is ignored.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_at_checked(HEADER_LEN)?;
        let mut at = 0;
        while *rest.get(at)? != 0 {
            at += usize::from(rest[at]) + 1;
        }
        // The name ends with an empty label; two bytes each of type and class follow.
        let question = rest.get(..at + 1 + 4)?;
        Some(Self { header, question })
    }

    fn is_for_ipv4(&self) -> bool {
        self.question.ends_with(&[TYPE_A, CLASS_IN].concat())
    }

    /// Returns the packet to answer with, or `None` for no answer.
    fn answer(&self, reply: &Reply) -> Option<Vec<u8>> {
        let (code, addresses) = match reply {
            Reply::Addresses(addresses) if self.is_for_ipv4() => (NO_ERROR, addresses.as_slice()),
            Reply::Addresses(_) | Reply::Empty => (NO_ERROR, [].as_slice()),
            Reply::NxDomain => (NO_SUCH_NAME, [].as_slice()),
            Reply::ServFail => (SERVER_FAILURE, [].as_slice()),
            Reply::Silence => return None,
        };
        let mut packet = self.header[..2].to_vec();
        // A response; recursion was desired and is available.
        packet.extend([0x81, 0x80 | code, 0, 1]);
        packet.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
        packet.extend([0, 0, 0, 0]);
        packet.extend(self.question);
        for address in addresses {
            // The name is the one in the question, at offset 12.
            packet.extend([0xc0, 12]);
            packet.extend([TYPE_A, CLASS_IN].concat());
            packet.extend(TTL.to_be_bytes());
            packet.extend([0, 4]);
            packet.extend(address.octets());
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07backend\x04test\x00\x00\x01\x00\x01";

    #[test]
    fn each_reply_becomes_the_matching_packet() {
        let query = Query::parse(QUERY).unwrap();
        for (reply, code, count) in [
            (Reply::Addresses(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]), NO_ERROR, 2),
            (Reply::Empty, NO_ERROR, 0),
            (Reply::NxDomain, NO_SUCH_NAME, 0),
            (Reply::ServFail, SERVER_FAILURE, 0),
        ] {
            let answer = query.answer(&reply).unwrap();
            assert_eq!((&answer[..2], answer[3] & 0xf, answer[7]), (&QUERY[..2], code, count), "{reply:?}");
        }
        assert_eq!(query.answer(&Reply::Silence), None);
        assert!(Query::parse(&QUERY[..20]).is_none());
    }
}
