//! Receives outcomes of truenroll-edge: verifies each, stores it once, and only then answers 2xx.

use std::{env, sync::Arc, sync::Mutex};

use anyhow::{Context, Result, ensure};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, body::Bytes, extract::DefaultBodyLimit, extract::State, routing::post};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use standardwebhooks::Webhook;

struct Receiver {
    webhooks: Vec<Webhook>,
    database: Mutex<Connection>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let secrets = env::var("SINK_SECRET").unwrap_or_default();
    // Two while the secret is being changed. The crate takes one without the prefix as well, and
    // then no signature is valid.
    let valid = !secrets.trim().is_empty() && secrets.split_whitespace().all(|secret| secret.starts_with("whsec_"));
    ensure!(valid, "SINK_SECRET must be a secret that begins with whsec_, or several with spaces between them");
    let webhooks = secrets.split_whitespace().map(Webhook::new).collect::<Result<_, _>>()?;
    let database = Connection::open(env::var("DATABASE").unwrap_or_else(|_| "outcomes.db".into()))?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS outcomes (event_key TEXT PRIMARY KEY, case_id TEXT, feature TEXT, body BLOB);
         CREATE TABLE IF NOT EXISTS erased (case_id TEXT PRIMARY KEY);",
    )?;
    let limit = DefaultBodyLimit::max(65 << 20); // a translation is up to 64 MiB
    let receiver = Arc::new(Receiver { webhooks, database: Mutex::new(database) });
    let app = Router::new().route("/outcomes", post(receive)).layer(limit).with_state(receiver);
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into());
    Ok(axum::serve(tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?, app).await?)
}

/// `body` is the bytes as they arrived, which the signature covers.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !receiver.webhooks.iter().any(|webhook| webhook.verify(&body, &headers).is_ok()) {
        return StatusCode::UNAUTHORIZED;
    }
    let stored = tokio::task::block_in_place(|| store(&receiver.database, &body));
    stored.inspect_err(|error| eprintln!("{error:#}")).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn store(database: &Mutex<Connection>, body: &[u8]) -> Result<StatusCode> {
    let delivery: Value = serde_json::from_slice(body)?;
    // From `backend doctor --probe-sink`.
    if delivery["test"] == true {
        return Ok(StatusCode::NO_CONTENT);
    }
    let text = |name: &str| delivery[name].as_str().with_context(|| format!("no {name}"));
    let mut database = database.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let transaction = database.transaction()?; // rolls back unless it is committed
    let erased = transaction.query_row("SELECT 1 FROM erased WHERE case_id = ?", [text("caseId")?], |_| Ok(()));
    if erased.optional()?.is_some() {
        return Ok(StatusCode::GONE); // never again
    }
    // The event key is the Idempotency-Key. Whatever else the outcome changes belongs in here, too.
    let row = (text("eventKey")?, text("caseId")?, text("feature")?, body);
    transaction.execute("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)", row)?;
    transaction.commit()?;
    Ok(StatusCode::NO_CONTENT)
}
