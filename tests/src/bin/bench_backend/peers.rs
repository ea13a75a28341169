//! The programs that the backend is compared with: axum that stores nothing, and a naive design.

use anyhow::{Context, Result};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use envelope::Envelope;
use redis::aio::ConnectionManager;
use tokio::net::TcpListener;

/// A program to compare with.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Peer {
    /// axum that answers 202 and stores nothing.
    Nothing,
    /// SETNX, then the work, then the answer: what a partner might write first. A crash in between
    /// loses the event.
    Naive,
}

/// The connections of the naive design.
#[derive(Clone)]
struct Naive {
    redis: ConnectionManager,
    client: reqwest::Client,
    api: String,
}

impl Peer {
    /// Answers on the port until it is killed.
    pub(crate) async fn serve(self, port: u16, api: &str, redis: &str) -> Result<()> {
        let routes = match self {
            Self::Nothing => Router::new().route("/{*path}", post(|_: Bytes| async { (StatusCode::ACCEPTED, "{}") })),
            Self::Naive => {
                let redis = ConnectionManager::new(redis::Client::open(redis).context("--redis")?).await?;
                let client = backend::test_support::http_client::builder(std::time::Duration::from_secs(5))
                    .no_proxy()
                    .build()?;
                Router::new().route("/{*path}", post(receive)).with_state(Naive { redis, client, api: api.to_owned() })
            }
        };
        Ok(axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, routes).await?)
    }
}

async fn receive(State(mut naive): State<Naive>, body: Bytes) -> StatusCode {
    let Ok(event) = Envelope::parse(&body) else { return StatusCode::BAD_REQUEST };
    let mut set = redis::cmd("SET");
    set.arg(event.key().as_str()).arg(1).arg("NX").arg("EX").arg(30 * 86_400);
    match set.query_async::<bool>(&mut naive.redis).await {
        Ok(true) => {}
        Ok(false) => return StatusCode::ACCEPTED,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE,
    }
    let result = async {
        let answer = naive.client.get(format!("{}/cases/{}/extraction", naive.api, event.case_id)).send().await?;
        answer.bytes().await
    };
    if result.await.is_ok() { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE }
}
