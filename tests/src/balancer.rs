//! A minimal load balancer for several Envoys: it forwards each connection to one that is ready.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// How often each target's readiness is checked.
const INTERVAL: Duration = Duration::from_millis(200);

/// A running load balancer. It stops when dropped.
pub struct Balancer {
    address: SocketAddr,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

struct Target {
    address: SocketAddr,
    ready: String,
    is_ready: AtomicBool,
}

impl Balancer {
    /// Starts a load balancer for the targets: each has an address and a URL that answers 200 while
    /// it is ready.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(targets: Vec<(SocketAddr, String)>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let targets: Arc<[_]> = targets
            .into_iter()
            .map(|(address, ready)| Arc::new(Target { address, ready, is_ready: AtomicBool::new(false) }))
            .collect();
        let checks = targets.iter().map(|target| AbortOnDropHandle::new(tokio::spawn(check(Arc::clone(target)))));
        let mut tasks: Vec<_> = checks.collect();
        tasks.push(AbortOnDropHandle::new(tokio::spawn(forward(listener, targets))));
        Ok(Self { address, _tasks: tasks })
    }

    /// The load balancer's URL, `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn check(target: Arc<Target>) {
    let client = simulator::sender::client();
    loop {
        let answer = client.get(&target.ready).timeout(Duration::from_secs(1)).send().await;
        target.is_ready.store(answer.is_ok_and(|answer| answer.status() == 200), Ordering::Relaxed);
        sleep(INTERVAL).await;
    }
}

async fn forward(listener: TcpListener, targets: Arc<[Arc<Target>]>) {
    let next = AtomicUsize::new(0);
    while let Ok((mut client, _)) = listener.accept().await {
        let first = next.fetch_add(1, Ordering::Relaxed);
        let targets = Arc::clone(&targets);
        tokio::spawn(async move {
            let order = (0..targets.len()).map(|offset| &targets[(first + offset) % targets.len()]);
            for target in order.filter(|target| target.is_ready.load(Ordering::Relaxed)) {
                if let Ok(mut upstream) = TcpStream::connect(target.address).await {
                    // If one side closes the connection, the other side sees it closed as well.
                    _ = copy_bidirectional(&mut client, &mut upstream).await;
                    return;
                }
            }
        });
    }
}
