//! Which server holds which partition.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use redis::ConnectionAddr;

use super::Server;
use crate::inbox::InboxError;

/// Which server holds which partition, and which one holds the keys that belong to no partition.
pub(in crate::inbox) struct Layout<S = Server> {
    /// The server of each partition, followed by the server of the other keys.
    servers: Vec<Arc<S>>,
}

impl<S> Layout<S> {
    /// Returns a layout in which one server holds everything: `places` is the number of partitions
    /// plus one.
    pub(super) fn single(server: &Arc<S>, places: usize) -> Self {
        Self { servers: vec![Arc::clone(server); places] }
    }

    /// Returns a layout of the servers at `addresses`. Uses those of `known` that have the same
    /// address, so that connections are kept, and creates the others with `create`.
    ///
    /// # Errors
    /// If `create` fails.
    pub(super) fn at(
        addresses: &[ConnectionAddr],
        mut known: BTreeMap<String, Arc<S>>,
        create: impl Fn(&ConnectionAddr) -> Result<S, InboxError>,
    ) -> Result<Self, InboxError> {
        let mut servers = Vec::with_capacity(addresses.len());
        for address in addresses {
            let server = match known.entry(address.to_string()) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(unknown) => Arc::clone(unknown.insert(Arc::new(create(address)?))),
            };
            servers.push(server);
        }
        Ok(Self { servers })
    }

    /// Returns an empty layout, to be replaced before it is used.
    pub(super) fn empty() -> Self {
        Self { servers: Vec::new() }
    }

    /// Returns the number of partitions plus one.
    pub(super) fn places(&self) -> usize {
        self.servers.len()
    }

    /// Returns the server of a partition.
    pub(super) fn of_partition(&self, partition: u32) -> &Arc<S> {
        &self.servers[partition as usize]
    }

    /// Returns the server of the keys that belong to no partition.
    pub(super) fn of_common(&self) -> &Arc<S> {
        &self.servers[self.servers.len() - 1]
    }

    /// Iterates over the servers, each once for every place that it holds.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<S>> {
        self.servers.iter()
    }

    /// Returns how many places have a different server in `known`.
    pub(super) fn moved_since(&self, known: &Self) -> usize {
        let pairs = known.servers.iter().zip(&self.servers);
        pairs.filter(|(old, new)| !Arc::ptr_eq(old, new)).count()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn address(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("redis".to_owned(), port)
    }

    fn layout(ports: &[u16], known: &Layout<String>) -> (Layout<String>, Vec<String>) {
        let created = RefCell::new(Vec::new());
        let addresses: Vec<_> = ports.iter().copied().map(address).collect();
        let known = known.iter().map(|server| (server.to_string(), Arc::clone(server))).collect();
        let create = |address: &ConnectionAddr| {
            created.borrow_mut().push(address.to_string());
            Ok(address.to_string())
        };
        let layout = Layout::at(&addresses, known, create).unwrap();
        (layout, created.into_inner())
    }

    #[test]
    fn a_server_is_created_once_and_kept_while_it_holds_something() {
        let (first, created) = layout(&[1, 2, 1, 2], &Layout::empty());
        assert_eq!(created, ["redis:1", "redis:2"]);
        assert!(Arc::ptr_eq(first.of_partition(0), first.of_partition(2)));
        assert!(Arc::ptr_eq(first.of_partition(1), first.of_common()));
        assert_eq!(first.moved_since(&first), 0);

        let (second, created) = layout(&[1, 3, 3, 2], &first);
        assert_eq!(created, ["redis:3"]);
        assert!(Arc::ptr_eq(second.of_partition(0), first.of_partition(0)));
        assert_eq!(second.moved_since(&first), 2);
    }

    #[test]
    fn a_single_server_holds_everything() {
        let server = Arc::new("redis:1".to_owned());
        let layout = Layout::single(&server, 17);
        assert_eq!(layout.places(), 17);
        assert!(layout.iter().all(|held| Arc::ptr_eq(held, &server)));
    }
}
