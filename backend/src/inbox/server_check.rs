//! Do the servers keep what they are given? Asked at start, and again while we run: their settings may be changed, and after
//! a failover there are others.

use std::{collections::HashMap, time::Duration};

use redis::{RedisError, aio::ConnectionLike};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Inbox, InboxError};
use crate::config::{Durability, Topology};

/// What a server has to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requirements {
    pub(super) durability: Durability,
    pub(super) topology: Topology,
    /// How long to wait for its answers.
    pub(super) patience: Duration,
}

/// That a server does what it should.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    /// Whether what the server has answered is on its disk, and nothing else is demanded.
    pub(super) syncs_always: bool,
}

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
        if self.requirements.is_none() {
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
            for server in self.servers.all().into_values() {
                if let Err(error) = server.check().await {
                    tracing::debug!("Redis at {}: {error}", server.address());
                }
            }
        }
    }

    /// Makes sure, at start, that every server does what it should. A replica may be away for a moment, after a failover
    /// for example.
    pub(super) async fn wait_until_fit(&self) -> Result<(), InboxError> {
        let until = Instant::now() + REPLICA_AWAY;
        let durability = self.requirements.map(|requirements| requirements.durability);
        for server in self.servers.all().into_values() {
            while let Err(error) = server.check().await {
                let may_come = matches!(durability, Some(Durability::Replicas(_))) && Instant::now() < until;
                if !may_come {
                    return Err(error);
                }
                sleep(WHILE_UNFIT / 2).await;
            }
        }
        Ok(())
    }
}

impl Requirements {
    /// Reads the settings of the server at the other end of `connection` and compares them with what is demanded of it.
    ///
    /// # Errors
    /// [`InboxError::Server`] where it is proved that the server does not do what it should. Every other error proves nothing.
    pub(super) async fn check(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<Proof, InboxError> {
        match timeout(self.patience, self.ask(address, connection)).await {
            Ok(proof) => proof,
            Err(_) => Err(InboxError::Timeout(self.patience)),
        }
    }

    async fn ask(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<Proof, InboxError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("appendonly").arg("appendfsync").arg("no-appendfsync-on-rewrite");
        command.arg("maxmemory-policy");
        let settings: HashMap<String, String> =
            command.query_async(connection).await.map_err(|error: RedisError| match error {
                error if is_forbidden(&error) => InboxError::Server(format!(
                    "Redis does not say how it keeps its data (CONFIG GET: {error}); where that is forbidden, make sure \
                     of it in another way and set `redis.check_server` to false"
                )),
                error => error.into(),
            })?;
        let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        check_settings(setting, self.durability).map_err(|problem| at(address, &problem))?;
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        check_replication(&info, self.durability).map_err(|problem| at(address, &problem))?;
        if self.topology == Topology::Single && value(&info, "cluster_enabled") == Some("1") {
            return Err(at(address, "it is one of a cluster: set `redis.topology` to \"cluster\""));
        }
        Ok(Proof { syncs_always: self.durability == Durability::Fsync && setting("appendfsync") == "always" })
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
        (
            on_disk && setting("no-appendfsync-on-rewrite") == "yes",
            "no-appendfsync-on-rewrite",
            "no",
            "it does not sync what it stores while it rewrites its append-only file",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_loses_events_is_named_with_the_value_it_should_have() {
        let good = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory-policy", "noeviction"),
        ];
        for (durability, name, value, said) in [
            (Durability::Fsync, "appendfsync", "everysec", None),
            (Durability::Fsync, "appendonly", "no", Some("set it to `appendonly yes`")),
            (Durability::Fsync, "appendfsync", "no", Some("set it to `appendfsync always`")),
            (Durability::Fsync, "no-appendfsync-on-rewrite", "yes", Some("set it to `no-appendfsync-on-rewrite no`")),
            (Durability::Fsync, "maxmemory-policy", "allkeys-lru", Some("set it to `maxmemory-policy noeviction`")),
            (Durability::Memory, "no-appendfsync-on-rewrite", "yes", None),
            (Durability::Replicas(1), "no-appendfsync-on-rewrite", "yes", None),
            (Durability::Memory, "appendonly", "no", None),
            (Durability::Memory, "maxmemory-policy", "volatile-ttl", Some("noeviction")),
        ] {
            let settings: HashMap<_, _> = good.into_iter().chain([(name, value)]).collect();
            let checked = check_settings(|name| settings.get(name).copied().unwrap_or_default(), durability);
            match said {
                None => assert_eq!(checked, Ok(()), "{durability:?}: {name} {value}"),
                Some(said) => assert!(checked.as_ref().is_err_and(|error| error.contains(said)), "{checked:?}"),
            }
        }
    }
}
