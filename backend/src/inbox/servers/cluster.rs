//! Which server of a Redis Cluster holds which slot.

use std::sync::Arc;

use redis::{ConnectionAddr, FromRedisValue, Value};

use super::Server;
use crate::inbox::{InboxError, keys::Keys};

/// The slot of each partition, followed by the slot of the keys that belong to no partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Vec<u16>);

/// One server's view of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    /// The cluster's epoch as the server knows it. It grows with each failover and each moved slot.
    epoch: u64,
    ranges: Vec<SlotRange>,
}

/// A range of slots and the primary that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    /// The last slot, inclusive.
    last: u16,
    primary: ConnectionAddr,
}

/// Asks a server for the slots of all partitions.
///
/// # Errors
/// Returns [`InboxError::Topology`] if the server does not belong to a cluster, another error if it
/// does not answer.
pub(super) async fn slots_of(server: &Server, keys: &Keys) -> Result<Slots, InboxError> {
    let mut commands = redis::pipe();
    for partition in 0..keys.partitions() {
        commands.cmd("CLUSTER").arg("KEYSLOT").arg(keys.of_partition(partition).lease());
    }
    commands.cmd("CLUSTER").arg("KEYSLOT").arg(keys.members());
    let slots = server.ask(commands.query_async(&mut server.connection())).await;
    slots.map(Slots).map_err(|error| match error {
        InboxError::Redis(error) if error.code() == Some("ERR") => InboxError::Topology(format!(
            "`redis.topology` is \"cluster\", but Redis at {} does not belong to a cluster: {error}",
            server.address()
        )),
        error => error,
    })
}

impl Slots {
    /// Returns the address of the primary of each slot, according to the newest view that one of
    /// `servers` has.
    ///
    /// # Errors
    /// Returns [`InboxError::Topology`] if the newest view names no server for a slot, the last
    /// error if no server answers.
    pub(super) async fn locate(&self, servers: &[Arc<Server>]) -> Result<Vec<ConnectionAddr>, InboxError> {
        let mut views = Vec::new();
        for server in servers {
            views.push(View::query(server).await);
        }
        View::newest(views)?.locate(&self.0)
    }
}

impl View {
    async fn query(server: &Server) -> Result<Self, InboxError> {
        let mut commands = redis::pipe();
        commands.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let mut connection = server.connection();
        let (info, ranges): (String, Vec<Vec<Value>>) = server.ask(commands.query_async(&mut connection)).await?;
        Ok(Self::read(&info, ranges, |host, port| server.neighbour(host, port)))
    }

    /// Reads the answers of `CLUSTER INFO` and `CLUSTER SLOTS`. `address` turns a host and a port
    /// into an address. A host of `None` is that of the server that was asked.
    fn read(info: &str, ranges: Vec<Vec<Value>>, address: impl Fn(Option<String>, u16) -> ConnectionAddr) -> Self {
        let epoch = info.lines().find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:")?.parse().ok());
        let ranges = ranges.into_iter().filter_map(|range| SlotRange::read(range, &address)).collect();
        Self { epoch: epoch.unwrap_or_default(), ranges }
    }

    /// Returns the view with the greatest epoch, the first one if several have it.
    fn newest(views: Vec<Result<Self, InboxError>>) -> Result<Self, InboxError> {
        let mut newest: Option<Self> = None;
        let mut last_error = InboxError::Topology("`redis.url` names no server of a cluster".to_owned());
        for view in views {
            match view {
                Ok(view) if newest.as_ref().is_none_or(|known| known.epoch < view.epoch) => newest = Some(view),
                Ok(_) => {}
                Err(error) => last_error = error,
            }
        }
        newest.ok_or(last_error)
    }

    fn locate(&self, slots: &[u16]) -> Result<Vec<ConnectionAddr>, InboxError> {
        slots.iter().map(|&slot| self.primary_of(slot)).collect()
    }

    fn primary_of(&self, slot: u16) -> Result<ConnectionAddr, InboxError> {
        for range in &self.ranges {
            if (range.first..=range.last).contains(&slot) {
                return Ok(range.primary.clone());
            }
        }
        Err(InboxError::Topology(format!("no server of the cluster holds slot {slot}: assign all slots")))
    }
}

impl SlotRange {
    /// Reads a range: the first slot, the last slot, the primary, its replicas. Each server is a
    /// list of a host, a port and more.
    fn read(range: Vec<Value>, address: impl Fn(Option<String>, u16) -> ConnectionAddr) -> Option<Self> {
        let mut parts = range.into_iter();
        let first = u16::from_redis_value(parts.next()?).ok()?;
        let last = u16::from_redis_value(parts.next()?).ok()?;
        let mut primary = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
        // A server that does not know its own host sends none: the caller knows the host at which
        // it reached the server.
        let host = Option::<String>::from_redis_value(primary.next()?).ok()?;
        let host = host.filter(|host| !matches!(host.as_str(), "" | "?"));
        let port = u16::from_redis_value(primary.next()?).ok()?;
        Some(Self { first, last, primary: address(host, port) })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use proptest::{collection::btree_set, prop_assert_eq, proptest};

    use super::*;

    fn address(host: Option<String>, port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp(host.unwrap_or("asked".to_owned()), port)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), text("node-id")])
    }

    fn view(epoch: u64) -> Result<View, InboxError> {
        Ok(View { epoch, ranges: Vec::new() })
    }

    #[test]
    fn the_view_with_the_greatest_epoch_counts() {
        let failed = || Err(InboxError::Timeout(Duration::ZERO));
        for (views, epoch) in [
            (vec![view(1)], Some(1)),
            (vec![view(1), view(3), view(2)], Some(3)),
            (vec![failed(), view(0), failed()], Some(0)),
            (vec![view(2), failed()], Some(2)),
            (vec![failed(), failed()], None),
            (vec![], None),
        ] {
            assert_eq!(View::newest(views).ok().map(|view| view.epoch), epoch);
        }
    }

    #[test]
    fn a_view_names_the_primary_of_each_range() {
        let replica = server(text("10.0.0.9"), 6_379);
        let ranges = vec![
            vec![Value::Int(0), Value::Int(99), server(text("10.0.0.1"), 6_379), replica.clone()],
            vec![Value::Int(100), Value::Int(100), server(text(""), 6_380)],
            vec![Value::Int(101), Value::Int(200), server(text("?"), 6_381), replica],
            vec![Value::Int(201), Value::Int(300), server(Value::Nil, 6_382)],
            vec![Value::Int(301)],
            vec![Value::Int(301), Value::Int(16_383), Value::Array(vec![text("10.0.0.1"), text("no port")])],
        ];
        let view = View::read("cluster_state:ok\r\ncluster_current_epoch:7\r\n", ranges, address);
        assert_eq!(view.epoch, 7);
        for (slot, primary) in [
            (0, Some(("10.0.0.1", 6_379))),
            (99, Some(("10.0.0.1", 6_379))),
            (100, Some(("asked", 6_380))),
            (101, Some(("asked", 6_381))),
            (300, Some(("asked", 6_382))),
            (301, None),
        ] {
            let expected = primary.map(|(host, port)| ConnectionAddr::Tcp(host.to_owned(), port));
            assert_eq!(view.primary_of(slot).ok(), expected, "slot {slot}");
        }
        assert_eq!(View::read("", vec![], address).epoch, 0, "a server without an epoch knows the least");
    }

    /// Returns the ranges that begin at `starts`, the last one first. Each primary's port is the
    /// start.
    fn ranges_from(starts: &BTreeSet<u16>) -> Vec<SlotRange> {
        let mut ranges = Vec::new();
        let mut last = 16_383;
        for &first in starts.iter().rev() {
            ranges.push(SlotRange { first, last, primary: address(None, first) });
            last = first.saturating_sub(1);
        }
        ranges
    }

    proptest! {
        #[test]
        fn a_slot_belongs_to_the_range_that_includes_it(starts in btree_set(0_u16..16_384, 1..30), slots in btree_set(0_u16..16_384, 1..30)) {
            let view = View { epoch: 1, ranges: ranges_from(&starts) };
            for slot in slots {
                let start = starts.range(..=slot).next_back();
                prop_assert_eq!(view.primary_of(slot).ok(), start.map(|&start| address(None, start)));
            }
        }
    }
}
