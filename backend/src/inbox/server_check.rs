//! Do the servers keep what they are given? Asked at start, and again while we run: their settings may be changed, and after
//! a failover there are others.

use std::{collections::HashMap, time::Duration};

use redis::RedisError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Inbox, InboxError, servers::Server};
use crate::config::{Durability, Topology};

/// How often the servers are asked.
const INTERVAL: Duration = Duration::from_secs(15);
/// How often while one does not do what it should.
const WHILE_UNFIT: Duration = Duration::from_secs(1);

/// How long a replica may be away at start.
const REPLICA_AWAY: Duration = Duration::from_secs(10);

impl Inbox {
    /// Keeps asking which server holds what, and whether each does what it should, until `shutdown` is cancelled. On
    /// one that does not nothing is stored; while none does we are not ready.
    pub async fn watch_servers(self, shutdown: CancellationToken) {
        tokio::join!(self.servers.watch(&shutdown), self.watch_settings(&shutdown));
    }

    async fn watch_settings(&self, shutdown: &CancellationToken) {
        let mut changes = self.servers.changes();
        if !self.checks_server {
            return;
        }
        loop {
            let pause = if self.servers.all().values().any(|server| server.ensure_fit().is_err()) {
                WHILE_UNFIT
            } else {
                INTERVAL
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = changes.changed() => {}
                () = shutdown.cancelled() => return,
            }
            for (address, server) in self.servers.all() {
                let problem = match self.check_server(&address, &server).await {
                    Err(InboxError::Server(problem)) => Some(problem),
                    // That it does not answer at all is noticed by everybody who asks it.
                    _ => None,
                };
                match (server.set_unfit(problem.clone()), problem) {
                    (true, Some(problem)) => tracing::error!("no event is stored there: {problem}"),
                    (true, None) => tracing::info!("Redis at {address} does again what it should"),
                    (false, _) => {}
                }
            }
        }
    }

    /// Makes sure, at start, that every server does what it should. A replica may be away for a moment, after a failover
    /// for example.
    pub(super) async fn wait_until_fit(&self) -> Result<(), InboxError> {
        let until = Instant::now() + REPLICA_AWAY;
        for (address, server) in self.servers.all() {
            while let Err(error) = self.check_server(&address, &server).await {
                let may_come = matches!(self.durability, Durability::Replicas(_)) && Instant::now() < until;
                if !may_come {
                    return Err(error);
                }
                sleep(WHILE_UNFIT / 2).await;
            }
        }
        Ok(())
    }

    /// Reads a server's settings and compares them with what is demanded of it.
    async fn check_server(&self, address: &str, server: &Server) -> Result<(), InboxError> {
        let mut connection = server.connection();
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
        let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        let on_disk = self.durability == Durability::Fsync;
        server.set_syncs_always(on_disk && setting("appendfsync") == "always");
        check_settings(setting, self.durability).map_err(|problem| at(address, &problem))?;
        let info: String = self.bounded(redis::cmd("INFO").query_async(&mut connection)).await?;
        check_replication(&info, self.durability).map_err(|problem| at(address, &problem))?;
        if self.servers.topology() == Topology::Single && value(&info, "cluster_enabled") == Some("1") {
            return Err(at(address, "it is one of a cluster: set `redis.topology` to \"cluster\""));
        }
        Ok(())
    }
}

fn at(address: &str, problem: &str) -> InboxError {
    InboxError::Server(format!("Redis at {address}: {problem}"))
}

/// A line of what INFO says.
fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code().is_some_and(|code| matches!(code, "NOPERM" | "ERR"))
}

fn check_settings<'a>(setting: impl Fn(&str) -> &'a str, durability: Durability) -> Result<(), String> {
    let on_disk = durability == Durability::Fsync;
    // With `everysec` each event is waited for, with `WAITAOF`.
    let is_synced = ["always", "everysec"].contains(&setting("appendfsync"));
    let memory = ", or `redis.durability` to \"memory\"";
    for (is_wrong, name, demanded, consequence, or) in [
        (
            setting("maxmemory-policy") != "noeviction",
            "maxmemory-policy",
            "noeviction",
            "it may drop events and their keys when its memory is full",
            "",
        ),
        (
            on_disk && setting("appendonly") != "yes",
            "appendonly",
            "yes",
            "it does not write what it stores to its disk",
            memory,
        ),
        (on_disk && !is_synced, "appendfsync", "always", "it does not say when what it stores is on its disk", memory),
    ] {
        if is_wrong {
            let actual = setting(name);
            return Err(format!("{consequence}: it runs with `{name} {actual}`; set it to `{name} {demanded}`{or}"));
        }
    }
    Ok(())
}

fn check_replication(info: &str, durability: Durability) -> Result<(), String> {
    if value(info, "role") == Some("slave") {
        return Err(
            "it is a replica, which stores nothing: `redis.url` must name the primary, or the sentinels".to_owned()
        );
    }
    let connected: u8 = value(info, "connected_slaves").and_then(|number| number.parse().ok()).unwrap_or_default();
    match durability {
        Durability::Replicas(needed) if connected < needed => Err(format!(
            "`redis.durability` asks for {needed} replicas, and it has {connected}: connect more, or ask for fewer"
        )),
        _ => Ok(()),
    }
}
