//! Starts the servers of a group, and connects them to each other.

use std::collections::HashMap;

use anyhow::Result;

use super::{Group, NAME, state::field};
use crate::{
    process::free_port,
    redis_server::{EVERY_SECOND, RedisOptions, RedisServer},
};

/// The number of hash slots of a cluster.
const SLOTS: usize = 16_384;

impl Group {
    /// Starts a primary, a replica and three sentinels.
    pub(super) fn start_sentinel_group(&mut self) -> Result<()> {
        self.start_server(&[])?;
        let primary = self.servers[0].port().to_string();
        self.start_server(&["--replicaof", &format!("127.0.0.1 {primary}")])?;
        self.wait_for("the replica is connected", |group| group.is_replica(&group.servers[1]))?;
        for _ in 0..3 {
            let port = free_port()?;
            let config = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n"
            );
            let folder = Some(self.folder.join(format!("sentinel-{port}")));
            let options = RedisOptions { folder, port: Some(port), sentinel: Some(config), ..RedisOptions::default() };
            self.sentinels.push(RedisServer::start(options)?);
        }
        self.wait_for("the sentinels know each other and the replica", |group| {
            for sentinel in &group.sentinels {
                let state: HashMap<String, String> = sentinel.ask(&["SENTINEL", "MASTER", NAME])?;
                let knows = |name: &str, count: &str| state.get(name).is_some_and(|number| number == count);
                if !knows("num-other-sentinels", "2") || !knows("num-slaves", "1") {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Starts a cluster of three primaries with a replica each.
    pub(super) fn start_cluster(&mut self) -> Result<()> {
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = free_port()?.to_string();
            let timeout = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            self.start_server(&timeout)?;
            buses.push(bus);
        }
        for (number, server) in self.servers.iter().enumerate() {
            server.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
            if number < 3 {
                let first = number * SLOTS / 3;
                let last = (number + 1) * SLOTS / 3 - 1;
                server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
            }
            let port = server.port().to_string();
            self.servers[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[number]])?;
        }
        self.wait_for("all servers know each other", |group| {
            for server in &group.servers {
                let info: String = server.ask(&["CLUSTER", "INFO"])?;
                if field(&info, "cluster_known_nodes") != Some("6") || field(&info, "cluster_state") != Some("ok") {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        for (replica, primary) in self.servers[3..].iter().zip(&self.servers) {
            let id: String = primary.ask(&["CLUSTER", "MYID"])?;
            replica.ask::<()>(&["CLUSTER", "REPLICATE", &id])?;
        }
        for number in 3..6 {
            self.wait_for("a replica is connected", |group| group.is_replica(&group.servers[number]))?;
        }
        self.wait_for("there are three primaries", |group| Ok(group.agreed()?.len() == 3))
    }

    fn start_server(&mut self, more: &[&str]) -> Result<()> {
        let port = free_port()?;
        let settings = [&EVERY_SECOND[..], &["--repl-diskless-sync-delay", "0"], more].concat();
        let folder = Some(self.folder.join(format!("redis-{port}")));
        let options = RedisOptions { folder, port: Some(port), ..RedisOptions::with(&settings) };
        self.servers.push(RedisServer::start(options)?);
        Ok(())
    }
}
