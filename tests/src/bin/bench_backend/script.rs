//! The Lua script that stores an event, called without HTTP by as many clients as the backend has.
//! Each client makes one call at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use envelope::{CaseId, Feature};
use harness::{
    keys,
    load::{Load, Slice},
};
use redis::Script;
use tokio::task::JoinSet;

use crate::programs;

const SCRIPT: &str = include_str!("../../../../backend/src/inbox/accept.lua");
const RETENTION_MS: u64 = 30 * 86_400_000;

pub(crate) async fn run(url: &str, load: &Load, counter: &Arc<AtomicU64>) -> Result<Slice> {
    let client = redis::Client::open(url)?;
    let script = Arc::new(Script::new(SCRIPT));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    let until = started + load.duration;
    for _ in 0..load.connections {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let script = Arc::clone(&script);
        let counter = Arc::clone(counter);
        clients.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let case = programs::case(number);
                let body = programs::body(number);
                let case_id = CaseId::new(&case).context("the benchmark's case identifiers are valid")?;
                let event_key = format!("case.extraction.completed:{case}:2025-06-22T10:30:00Z");
                let keys = keys::of_partition((number % 16) as u32);
                let sent = Instant::now();
                let mut call = script.prepare_invoke();
                call.key(keys.seen_as(&event_key)).key(keys.inbox(Feature::Extraction));
                call.key(keys.case(&case_id)).key(keys.backfilled(Feature::Extraction, &case_id));
                call.arg("0123456789abcdef").arg(RETENTION_MS);
                call.arg(&event_key).arg(&body);
                call.arg(1_750_588_200_000_u64).arg("extraction").arg(1_750_588_200_000_u64);
                let _: i64 = call.invoke_async(&mut connection).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, anyhow::Error>(latencies)
        });
    }
    Slice::gather(clients, started).await
}
