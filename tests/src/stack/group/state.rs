//! What the servers of a group say about their roles.

use anyhow::Result;
use redis::{FromRedisValue, Value};

use super::{Group, NAME, loopback};
use crate::redis_server::{RedisServer, ask};

impl Group {
    /// The ports of the primaries: according to a sentinel, or to the cluster server with the
    /// newest configuration.
    pub(super) fn agreed(&self) -> Result<Vec<u16>> {
        if let Some(sentinel) = self.sentinels.first() {
            let (_, port): (String, String) = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?;
            return Ok(vec![port.parse()?]);
        }
        let mut newest_epoch = 0;
        let mut primaries = Vec::new();
        for server in &self.servers {
            let Ok(info) = server.ask::<String>(&["CLUSTER", "INFO"]) else { continue };
            let Ok(slots) = server.ask::<Vec<Vec<Value>>>(&["CLUSTER", "SLOTS"]) else { continue };
            let epoch: u64 = field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
            if field(&info, "cluster_state") == Some("ok") && epoch >= newest_epoch {
                newest_epoch = epoch;
                primaries = slots.iter().filter_map(|range| primary_of(range)).collect();
            }
        }
        Ok(primaries)
    }

    /// Whether a server is a replica that has all of its primary's data, and that the primary
    /// knows.
    pub(super) fn is_replica(&self, server: &RedisServer) -> Result<bool> {
        let info: String = server.ask(&["INFO", "replication"])?;
        let primary = field(&info, "master_port").and_then(|port| port.parse::<u16>().ok());
        let Some(primary) = primary.filter(|_| field(&info, "master_link_status") == Some("up")) else {
            return Ok(false);
        };
        let info: String = ask(loopback(primary), &["INFO", "replication"])?;
        let online = format!("port={},state=online", server.port());
        Ok(is_primary(primary) && info.contains(&online))
    }
}

/// Whether the server at `port` says that it is a primary.
pub(super) fn is_primary(port: u16) -> bool {
    let role = ask::<Vec<Value>>(loopback(port), &["ROLE"]).ok().and_then(|role| role.into_iter().next());
    role.and_then(|role| String::from_redis_value(role).ok()).is_some_and(|role| role == "master")
}

/// The port of the primary of one slot range in the answer of `CLUSTER SLOTS`.
fn primary_of(range: &[Value]) -> Option<u16> {
    let primary = Vec::<Value>::from_redis_value(range.get(2)?.clone()).ok()?;
    u16::from_redis_value(primary.get(1)?.clone()).ok()
}

/// The value of one field in the answer of an `INFO` command.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}
