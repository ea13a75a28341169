//! The console's listener, with a limit on connections: whoever opens many must not take from the
//! ingest the files that it may open.

use std::{io, net::SocketAddr, sync::Arc};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::io::InspectReader;

/// How many connections are open at once. Further ones wait.
const MAX_CONNECTIONS: usize = 256;

/// A listener that accepts a connection only while few enough are open.
pub(super) struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for Limited {
    /// A connection that keeps its permit.
    type Io = InspectReader<TcpStream, Box<dyn FnMut(&[u8]) + Send>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // The semaphore is never closed, so this always returns a permit.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (connection, address) = Listener::accept(&mut self.listener).await;
        let keep = Box::new(move |_: &[u8]| _ = &permit);
        (InspectReader::new(connection, keep), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
