//! The script that stores an event, called by as many clients as the backend has, without HTTP and one call at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use harness::load::{Load, Slice};
use redis::Script;
use tokio::task::JoinSet;

use crate::programs;

const SCRIPT: &str = include_str!("../../../../backend/src/inbox/accept.lua");
const RETENTION_MS: u64 = 30 * 86_400_000;

pub(crate) async fn run(url: &str, load: &Load, counter: &Arc<AtomicU64>) -> Result<Slice> {
    let (client, script) = (redis::Client::open(url)?, Arc::new(Script::new(SCRIPT)));
    let (started, mut clients) = (Instant::now(), JoinSet::new());
    let until = started + load.duration;
    for _ in 0..load.connections {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (script, counter) = (Arc::clone(&script), Arc::clone(counter));
        clients.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let (case, body) = (programs::case(number), programs::body(number));
                let tag = format!("{{edge:{}}}", number % 16);
                let sent = Instant::now();
                let mut call = script.prepare_invoke();
                call.key(format!("{tag}:seen:case.extraction.completed:{case}:2025-06-22T10:30:00Z"));
                call.key(format!("{tag}:inbox:extraction")).key(format!("{tag}:case:{case}"));
                call.key(format!("{tag}:late:extraction:{case}"));
                call.arg("0123456789abcdef").arg(RETENTION_MS);
                call.arg(format!("case.extraction.completed:{case}:2025-06-22T10:30:00Z")).arg(&body);
                call.arg(1_750_588_200_000_u64).arg("extraction").arg(1_750_588_200_000_u64);
                let _: i64 = call.invoke_async(&mut connection).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, redis::RedisError>(latencies)
        });
    }
    Slice::gather(clients, started).await
}
