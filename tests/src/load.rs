//! Load for the benchmarks: a client and a server that use little CPU time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep_until,
};

/// The measurements of one slice of load.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// The number of answered requests.
    pub requests: u64,
    /// How long the slice lasted.
    pub elapsed: Duration,
    /// The time from each request to its answer, in ascending order.
    pub latencies: Vec<Duration>,
}

/// A load of requests.
#[derive(Clone)]
pub struct Load {
    /// The local ports to send to. The connections are spread evenly over them.
    pub ports: Vec<u16>,
    /// The number of connections. Each sends its next request after the previous answer.
    pub connections: usize,
    /// Requests per second; `None` for as many as possible.
    pub rate: Option<f64>,
    /// The expected status of every answer.
    pub status: u16,
    /// How long to send.
    pub duration: Duration,
}

impl Slice {
    /// Collects what clients that began at `started` measured.
    ///
    /// # Errors
    /// Returns the first error of a client.
    pub async fn gather<E>(mut clients: JoinSet<Result<Vec<Duration>, E>>, started: Instant) -> Result<Self>
    where
        E: Into<anyhow::Error> + Send + 'static,
    {
        let mut slice = Self::default();
        while let Some(latencies) = clients.join_next().await {
            slice.latencies.extend(latencies?.map_err(Into::into)?);
        }
        slice.elapsed = started.elapsed();
        slice.requests = slice.latencies.len() as u64;
        slice.latencies.sort_unstable();
        Ok(slice)
    }
}

impl Load {
    /// Sends the requests that `request` builds from the numbers of `counter`.
    ///
    /// # Errors
    /// If an answer has another status, or a connection is closed.
    pub async fn run<F>(&self, counter: &Arc<AtomicU64>, request: F) -> Result<Slice>
    where
        F: Fn(u64) -> Vec<u8> + Clone + Send + 'static,
    {
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..self.connections {
            let port = self.ports[number % self.ports.len()];
            clients.spawn(client(port, self.clone(), started + self.duration, Arc::clone(counter), request.clone()));
        }
        Slice::gather(clients, started).await
    }
}

async fn client(
    port: u16,
    load: Load,
    until: Instant,
    counter: Arc<AtomicU64>,
    request: impl Fn(u64) -> Vec<u8>,
) -> Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let expected = format!("HTTP/1.1 {} ", load.status);
    let pause = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    let mut due = Instant::now() + pause.unwrap_or_default().mul_f64(fastrand::f64());
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4_096);
    while Instant::now() < until {
        if let Some(pause) = pause {
            sleep_until(due.into()).await;
            due += pause;
        }
        let request = request(counter.fetch_add(1, Ordering::Relaxed));
        let sent = Instant::now();
        socket.write_all(&request).await?;
        answer.clear();
        while !is_complete(&answer) {
            ensure!(socket.read_buf(&mut answer).await? > 0, "the server closed the connection");
        }
        if !answer.starts_with(expected.as_bytes()) {
            bail!("expected status {}, but the answer was: {}", load.status, String::from_utf8_lossy(&answer));
        }
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

/// Answers every request with 202 and an empty object.
pub async fn serve(listener: TcpListener) {
    answer_all(listener, "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}").await;
}

/// Answers every request with `answer`.
pub async fn answer_all(listener: TcpListener, answer: &'static str) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            _ = socket.set_nodelay(true);
            let mut request = Vec::with_capacity(4_096);
            while socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if is_complete(&request) {
                    request.clear();
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Whether the message is complete: its head, and a body of the length that the head states.
fn is_complete(message: &[u8]) -> bool {
    let Some(end) = message.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    message.len() >= end + 4 + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
