//! Keeps asking which server holds which partition, and whether each server is fit.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Servers, layout::Layout};
use crate::{
    config::{Durability, Topology},
    inbox::InboxError,
};

/// How often to ask for the layout.
const LAYOUT_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum time between two such questions.
const MIN_LAYOUT_INTERVAL: Duration = Duration::from_millis(100);
/// How often to check whether the servers are fit.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// The same while a server is unfit.
const UNFIT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often to check a server at start until it is fit.
const START_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a replica may be disconnected at start, for instance after a failover.
const MAX_REPLICA_ABSENCE: Duration = Duration::from_secs(10);

impl Servers {
    /// Watches the servers until `shutdown` is cancelled.
    pub(in crate::inbox) async fn watch(&self, shutdown: &CancellationToken) {
        tokio::join!(self.watch_layout(shutdown), self.watch_fitness(shutdown));
    }

    async fn watch_layout(&self, shutdown: &CancellationToken) {
        while self.topology != Topology::Single && !shutdown.is_cancelled() {
            sleep(MIN_LAYOUT_INTERVAL).await;
            tokio::select! {
                () = sleep(LAYOUT_INTERVAL) => {}
                () = self.refresh.notified() => {}
                () = shutdown.cancelled() => return,
            }
            let places = self.layout.borrow().places();
            match self.query_layout(places).await {
                Ok(layout) => self.update_layout(layout),
                Err(error) => tracing::debug!("cannot tell which Redis server holds which partition: {error}"),
            }
        }
    }

    fn update_layout(&self, layout: Layout) {
        self.layout.send_if_modified(|known| {
            let moved = layout.moved_since(known);
            if moved > 0 {
                let total = layout.places();
                tracing::info!(
                    servers = %describe(&layout),
                    "moved to another server: {moved} of {total} partitions (common keys count as one)"
                );
                *known = layout.into();
            }
            moved > 0
        });
    }

    async fn watch_fitness(&self, shutdown: &CancellationToken) {
        let mut changes = self.changes();
        loop {
            let any_unfit = self.all().values().any(|server| server.ensure_fit().is_err());
            let interval = if any_unfit { UNFIT_CHECK_INTERVAL } else { CHECK_INTERVAL };
            tokio::select! {
                () = sleep(interval) => {}
                _ = changes.changed() => {}
                () = shutdown.cancelled() => return,
            }
            for server in self.all().into_values() {
                if let Err(error) = server.check().await {
                    tracing::debug!("cannot prove that Redis at {} is fit: {error}", server.address());
                }
            }
        }
    }

    /// Makes sure, at start, that every server is fit. A replica may be disconnected for a moment.
    ///
    /// # Errors
    /// Returns an error if a server is not fit, or if that is unknown.
    pub(in crate::inbox) async fn ensure_fit(&self) -> Result<(), InboxError> {
        let requirements = self.settings.checks.requirements;
        let deadline = Instant::now() + MAX_REPLICA_ABSENCE;
        for server in self.all().into_values() {
            while let Err(error) = server.check().await {
                let may_recover =
                    requirements.is_some_and(|needed| matches!(needed.durability, Durability::Replicas(_)));
                if !may_recover || Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(START_CHECK_INTERVAL).await;
            }
        }
        Ok(())
    }
}

fn describe(layout: &Layout) -> String {
    let mut addresses: Vec<_> = layout.iter().map(|server| server.address()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(" ")
}
