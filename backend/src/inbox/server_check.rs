//! Does the server keep what it is given? Asked at start, and again while we run: its settings may be changed, and after a
//! failover it is another server.

use std::{collections::HashMap, time::Duration};

use redis::RedisError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Inbox, InboxError};
use crate::config::Durability;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(15);

impl Inbox {
    /// Asks the server again and again, until `shutdown` is cancelled. While it does not do what it should, nothing is
    /// accepted and we are not ready.
    pub async fn watch_server(self, shutdown: CancellationToken) {
        while self.checks_server && shutdown.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            let problem = match self.check_server().await {
                Err(InboxError::Server(problem)) => Some(problem),
                // That it does not answer at all is noticed by everybody who asks it.
                _ => None,
            };
            self.unfit.send_if_modified(|known| {
                let changed = *known != problem;
                if changed {
                    match &problem {
                        Some(problem) => tracing::error!("no event is accepted: {problem}"),
                        None => tracing::info!("Redis does again what it should"),
                    }
                    *known = problem;
                }
                changed
            });
        }
    }

    /// Reads the server's settings and compares them with what is demanded of it.
    pub(super) async fn check_server(&self) -> Result<(), InboxError> {
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("appendonly").arg("appendfsync").arg("maxmemory-policy");
        let settings: HashMap<String, String> =
            self.bounded(command.query_async(&mut connection)).await.map_err(|error| match error {
                InboxError::Redis(error) if is_forbidden(&error) => InboxError::Server(format!(
                    "Redis does not say how it keeps its data (CONFIG GET: {error}); where that is forbidden, make sure \
                     of it in another way and set `redis.check_server` to false"
                )),
                error => error,
            })?;
        check_settings(&settings, self.durability)?;
        let info: String = self.bounded(redis::cmd("INFO").arg("replication").query_async(&mut connection)).await?;
        check_replication(&info, self.durability)
    }
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code().is_some_and(|code| matches!(code, "NOPERM" | "ERR"))
}

fn check_settings(settings: &HashMap<String, String>, durability: Durability) -> Result<(), InboxError> {
    let must_sync = durability == Durability::Fsync;
    let demands = [
        ("maxmemory-policy", "noeviction", "Redis may drop events and their keys when its memory is full", true),
        ("appendonly", "yes", "Redis does not write what it stores to its disk", must_sync),
        ("appendfsync", "always", "Redis answers before what it stores is on its disk", must_sync),
    ];
    for (name, demanded, consequence, applies) in demands {
        let actual = settings.get(name).map(String::as_str).unwrap_or_default();
        if applies && actual != demanded {
            let way_out = if name == "maxmemory-policy" { "" } else { ", or `redis.durability` to \"memory\"" };
            return Err(InboxError::Server(format!(
                "{consequence}: it runs with `{name} {actual}`; set it to `{name} {demanded}`{way_out}"
            )));
        }
    }
    Ok(())
}

fn check_replication(info: &str, durability: Durability) -> Result<(), InboxError> {
    let value = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    if value("role") == Some("slave") {
        let problem = "Redis is a replica, which stores nothing: `redis.url` must name the primary";
        return Err(InboxError::Server(problem.to_owned()));
    }
    let connected: u8 = value("connected_slaves").and_then(|number| number.parse().ok()).unwrap_or_default();
    match durability {
        Durability::Replicas(needed) if connected < needed => Err(InboxError::Server(format!(
            "`redis.durability` asks for {needed} replicas, and Redis has {connected}: connect more, or ask for fewer"
        ))),
        _ => Ok(()),
    }
}
