//! What a cluster's servers say of who holds which slot.

use std::sync::Arc;

use redis::{ConnectionAddr, FromRedisValue, Value};

use super::Server;
use crate::inbox::{InboxError, keys::Keys};

/// The slot of each partition, and at the end that of the keys that belong to no partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Vec<u16>);

/// One server's view of the cluster.
struct View {
    epoch: u64,
    /// From the first to the last slot, and the address of their primary.
    ranges: Vec<(u16, u16, ConnectionAddr)>,
}

/// Has a server work out the slots.
pub(super) async fn slots_of(server: &Server, keys: &Keys) -> Result<Slots, InboxError> {
    let mut commands = redis::pipe();
    for partition in 0..keys.partitions() {
        commands.cmd("CLUSTER").arg("KEYSLOT").arg(keys.of_partition(partition).lease());
    }
    commands.cmd("CLUSTER").arg("KEYSLOT").arg(keys.members());
    let slots = server.ask(commands.query_async(&mut server.connection())).await;
    slots.map(Slots).map_err(|error| match error {
        InboxError::Redis(error) if error.code() == Some("ERR") => InboxError::Server(format!(
            "Redis at {} is not one of a cluster, as `redis.topology` says that it is: {error}",
            server.address()
        )),
        error => error,
    })
}

impl Slots {
    /// Where each slot is, by the newest view that one of the servers has.
    pub(super) async fn places(&self, servers: &[Arc<Server>]) -> Result<Vec<ConnectionAddr>, InboxError> {
        let mut newest: Option<View> = None;
        let mut failed = None;
        for server in servers {
            match View::of(server).await {
                Ok(view) if newest.as_ref().is_none_or(|known| known.epoch < view.epoch) => newest = Some(view),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        let Some(view) = newest else {
            return Err(failed.unwrap_or_else(|| InboxError::Server("the cluster has no server".to_owned())));
        };
        let place = |slot: &u16| {
            let range = view.ranges.iter().find(|(first, last, _)| (first..=last).contains(&slot));
            let held = range.map(|(_, _, address)| address.clone());
            held.ok_or_else(|| InboxError::Server(format!("no server of the cluster holds slot {slot}")))
        };
        self.0.iter().map(place).collect()
    }
}

impl View {
    async fn of(server: &Server) -> Result<Self, InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let mut connection = server.connection();
        let (info, ranges): (String, Vec<Vec<Value>>) = server.ask(commands.query_async(&mut connection)).await?;
        let epoch = info.lines().find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:")?.parse().ok());
        let ranges = ranges.into_iter().filter_map(|range| Self::range(range, server)).collect();
        Ok(Self { epoch: epoch.unwrap_or_default(), ranges })
    }

    /// First slot, last slot, the primary, its replicas; each server an address, a port and more.
    fn range(range: Vec<Value>, asked: &Server) -> Option<(u16, u16, ConnectionAddr)> {
        let mut parts = range.into_iter();
        let (first, last) = (u16::from_redis_value(parts.next()?).ok()?, u16::from_redis_value(parts.next()?).ok()?);
        let mut primary = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
        let host = Option::<String>::from_redis_value(primary.next()?).ok()?.unwrap_or_default();
        let port = u16::from_redis_value(primary.next()?).ok()?;
        let host = match (host.as_str(), asked.client.get_connection_info().addr()) {
            // A server that does not know its own address: it is the one that we have asked it at.
            ("" | "?", ConnectionAddr::Tcp(own, _) | ConnectionAddr::TcpTls { host: own, .. }) => own.clone(),
            _ => host,
        };
        Some((first, last, asked.neighbour(host, port)))
    }
}
