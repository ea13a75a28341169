//! The load: a client and a server that cost little, and what they measure.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What one slice of load measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// In the order of their length.
    pub(crate) latencies: Vec<Duration>,
}

const CONNECTIONS: usize = 16;

/// Sends `request` over and over for `duration`, and makes sure that each is answered with `status`.
pub(crate) async fn run(port: u16, request: &[u8], status: u16, duration: Duration) -> Result<Slice> {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(client(port, request.to_vec(), status, started + duration));
    }
    let mut slice = Slice::default();
    while let Some(latencies) = clients.join_next().await {
        slice.latencies.extend(latencies??);
    }
    slice.elapsed = started.elapsed();
    slice.requests = slice.latencies.len() as u64;
    slice.latencies.sort_unstable();
    Ok(slice)
}

async fn client(port: u16, request: Vec<u8>, status: u16, until: Instant) -> Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let expected = format!("HTTP/1.1 {status} ");
    let (mut latencies, mut answer) = (Vec::new(), Vec::with_capacity(4_096));
    while Instant::now() < until {
        let sent = Instant::now();
        socket.write_all(&request).await?;
        answer.clear();
        while !is_complete(&answer) {
            ensure!(socket.read_buf(&mut answer).await? > 0, "the connection was closed");
        }
        if !answer.starts_with(expected.as_bytes()) {
            bail!("not answered with {status}, but {}", String::from_utf8_lossy(&answer));
        }
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// Answers everything with 202.
pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            _ = socket.set_nodelay(true);
            let mut request = Vec::with_capacity(4_096);
            while socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if is_complete(&request) {
                    request.clear();
                    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
                    if socket.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Whether there is a whole message of the length that it states.
fn is_complete(message: &[u8]) -> bool {
    let Some(end) = message.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    message.len() >= end + 4 + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
