//! Reads the entries of a partition and feeds them to the lanes of their features.

use std::{sync::Arc, time::Duration};

use envelope::Feature;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use crate::inbox::{Batch, Paused, Reader};

/// Reads ahead by at most one batch of each feature.
pub(super) struct Feeder {
    pub(super) reader: Reader,
    /// The largest number of entries in a batch.
    pub(super) limit: usize,
    /// The channels to the lanes of each feature. Each has room for one batch.
    pub(super) lanes: Vec<(Feature, mpsc::Sender<Batch>)>,
    /// Notified when lanes have received a batch, and so have room for another one.
    pub(super) room: Arc<Notify>,
    pub(super) paused: watch::Receiver<Paused>,
}

/// Whether entries of a feature are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// The lanes have room for a batch.
    Open,
    /// The lanes have yet to receive the previous batch.
    Full,
    /// The feature is paused.
    Paused,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Read entries of these features. If there are none, wait in Redis for one.
    Read(Vec<Feature>),
    /// Read entries of these features, but do not wait for one. If there are none, try again after
    /// [`POLL`].
    ///
    /// Another feature has no room now, but may have room again at any moment. If this read waited
    /// in Redis for an entry, the entries of that feature could not be read meanwhile.
    Poll(Vec<Feature>),
    /// Read nothing until a feature has room or is resumed.
    Wait,
}

/// How long a read waits in Redis for an entry.
const BLOCK: Duration = Duration::from_secs(1);
/// The interval between reads that do not wait.
const POLL: Duration = Duration::from_millis(50);

impl Feeder {
    /// Feeds the lanes. Ends when the lanes of any feature have stopped.
    pub(super) async fn run(mut self) {
        loop {
            let batches = match next_step(self.demands()) {
                Step::Read(features) => self.reader.next(&features, self.limit, BLOCK).await,
                Step::Poll(features) => {
                    let batches = self.reader.next(&features, self.limit, Duration::ZERO).await;
                    if batches.as_ref().is_ok_and(Vec::is_empty) {
                        self.wait(POLL).await;
                    }
                    batches
                }
                Step::Wait => {
                    self.wait(Duration::MAX).await;
                    continue;
                }
            };
            match batches {
                Ok(batches) => {
                    for batch in batches {
                        if self.feed(batch).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(reason = error.reason(), "cannot read the inbox, will retry: {error}");
                    sleep(Duration::from_millis(200 + fastrand::u64(..200))).await;
                }
            }
        }
    }

    fn demands(&mut self) -> impl Iterator<Item = (Feature, Demand)> {
        let paused = self.paused.borrow_and_update();
        self.lanes.iter().map(move |(feature, lanes)| {
            let demand = if paused.features.contains(feature) {
                Demand::Paused
            } else if lanes.capacity() == 0 {
                Demand::Full
            } else {
                Demand::Open
            };
            (*feature, demand)
        })
    }

    /// Waits until lanes have room, the paused features change, or `limit` has passed.
    async fn wait(&mut self, limit: Duration) {
        tokio::select! {
            () = self.room.notified() => {}
            _ = self.paused.changed() => {}
            () = sleep(limit) => {}
        }
    }

    async fn feed(&self, batch: Batch) -> Result<(), mpsc::error::SendError<Batch>> {
        match self.lanes.iter().find(|(feature, _)| *feature == batch.feature) {
            Some((_, lanes)) => lanes.send(batch).await,
            None => Ok(()),
        }
    }
}

fn next_step(demands: impl Iterator<Item = (Feature, Demand)>) -> Step {
    let mut open = Vec::with_capacity(Feature::ALL.len());
    let mut is_any_full = false;
    for (feature, demand) in demands {
        match demand {
            Demand::Open => open.push(feature),
            Demand::Full => is_any_full = true,
            Demand::Paused => {}
        }
    }
    match (open.is_empty(), is_any_full) {
        (true, _) => Step::Wait,
        (false, true) => Step::Poll(open),
        (false, false) => Step::Read(open),
    }
}

#[cfg(test)]
mod tests {
    use super::{Demand::*, *};

    #[test]
    fn features_with_room_are_read_and_the_read_waits_only_if_no_other_feature_is_full() {
        let [first, second, third, fourth] = Feature::ALL;
        for (demands, expected) in [
            ([Open, Open, Open, Open], Step::Read(Feature::ALL.to_vec())),
            ([Open, Paused, Open, Paused], Step::Read(vec![first, third])),
            ([Paused, Paused, Paused, Open], Step::Read(vec![fourth])),
            ([Open, Full, Open, Open], Step::Poll(vec![first, third, fourth])),
            ([Full, Open, Paused, Full], Step::Poll(vec![second])),
            ([Full, Full, Full, Full], Step::Wait),
            ([Paused, Full, Paused, Full], Step::Wait),
            ([Paused, Paused, Paused, Paused], Step::Wait),
        ] {
            assert_eq!(next_step(Feature::ALL.into_iter().zip(demands)), expected, "{demands:?}");
        }
    }
}
