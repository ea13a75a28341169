//! Simulates TruEnroll, as its documentation describes it, and the partner's application.
//!
//! - [`world`] holds the cases and how far each has been processed.
//! - [`api`] serves the cases as the Partner API.
//! - [`sender`] sends events and counts the answers.
//! - [`scenario`] generates realistic traffic.
//! - [`steady`] sends at a constant rate and never retries.
//! - [`send`] is a single request to try by hand, and the answer that it deserves.
//! - [`control`] tells a running simulator which stages have finished.
//! - [`application`] receives the outcomes and checks them.
//! - [`running`] is what `cargo up` leaves for other commands.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub mod api;
pub mod application;
pub mod control;
pub mod running;
pub mod scenario;
pub mod send;
pub mod sender;
pub mod steady;
pub mod world;

use application::Application;
use world::World;

/// The API key that the Partner API demands by default.
pub const API_KEY: &str = "a-key-that-the-simulator-knows";
/// The secret with which the backend signs outcomes by default.
pub const SINK_SECRET: &str = "whsec_c2ltdWxhdG9yLWFuZC1iYWNrZW5kLXNoYXJlLWl0";

/// The case in TruEnroll's documentation.
pub const EXAMPLE_CASE: &str = "6850abc123def456ghi789";
/// That case's reference in the partner's own system.
pub const EXAMPLE_EXTERNAL_ID: &str = "applicant-9876";

/// A running simulator. It stops when dropped.
pub struct Simulator {
    /// The cases.
    pub world: Arc<World>,
    /// The partner's application.
    pub application: Arc<Application>,
    address: SocketAddr,
    routes: Router,
    servers: Vec<AbortOnDropHandle<()>>,
}

impl Simulator {
    /// Starts to serve on `address`. Port 0 stands for a free port.
    ///
    /// # Errors
    /// If it cannot listen there, or the secret is invalid.
    pub async fn start(address: &str, api_key: &str, sink_secret: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let world = Arc::new(World::new(api_key));
        let application = Arc::new(Application::new(sink_secret)?);
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .nest("/partner/v1", api::routes(Arc::clone(&world)))
            .merge(control::routes(Arc::clone(&world)))
            .merge(application::routes(Arc::clone(&application)));
        let mut simulator = Self { world, application, address: listener.local_addr()?, routes, servers: Vec::new() };
        simulator.serve(listener);
        Ok(simulator)
    }

    /// Serves the same on another address as well, and returns that address, so that the Partner API
    /// and the application can have different ones.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn also_on(&mut self, address: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.serve(listener);
        Ok(address)
    }

    fn serve(&mut self, listener: TcpListener) {
        let routes = self.routes.clone();
        let server = tokio::spawn(async move {
            // The server runs until its task is aborted.
            _ = axum::serve(listener, routes).await;
        });
        self.servers.push(AbortOnDropHandle::new(server));
    }

    /// The address on which it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The simulator's URL, `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
