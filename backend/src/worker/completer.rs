//! Takes events that were handled out of the inbox. Those that are handled while Redis is asked go together the next time.

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::attempt::store;
use crate::inbox::{EntryId, Fenced, Lease};

/// For the events of one feature in a partition.
#[derive(Clone)]
pub(super) struct Completer {
    handled: mpsc::Sender<Handled>,
}

struct Handled {
    entry: EntryId,
    told: oneshot::Sender<Result<(), Fenced>>,
}

/// How many go together at most.
const MOST: usize = 256;

impl Completer {
    /// Works until the task that comes with it is dropped.
    pub(super) fn new(lease: Lease) -> (Self, AbortOnDropHandle<()>) {
        let (handled, queue) = mpsc::channel(MOST);
        (Self { handled }, AbortOnDropHandle::new(tokio::spawn(run(lease, queue))))
    }

    /// Returns when the event is out of the inbox.
    pub(super) async fn complete(&self, entry: EntryId) -> Result<(), Fenced> {
        let (told, answer) = oneshot::channel();
        self.handled.send(Handled { entry, told }).await.map_err(|_| Fenced)?;
        answer.await.map_err(|_| Fenced)?
    }
}

async fn run(lease: Lease, mut queue: mpsc::Receiver<Handled>) {
    let mut handled = Vec::new();
    while queue.recv_many(&mut handled, MOST).await > 0 {
        let entries: Vec<_> = handled.iter().map(|handled| handled.entry).collect();
        let done = store(|| lease.complete(&entries)).await;
        for handled in handled.drain(..) {
            // Nobody waits any more where the partition is given up.
            _ = handled.told.send(done);
        }
    }
}
