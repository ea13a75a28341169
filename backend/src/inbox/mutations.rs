//! The mutations that need the inbox's private parts. A mutation is a variant of the backend
//! without one of its protections, for tests ([`crate::mutation`]).

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Inbox, InboxError,
    accept::Accepted,
    arrival::{Arrival, Place},
    scripts,
};
use crate::time::{duration_millis, to_millis};

impl Inbox {
    /// Sets the seen key first and stores the event afterwards, as a naive receiver does. A crash
    /// in between loses the event: its redelivery looks like a duplicate.
    pub(super) async fn accept_in_two_steps(&self, arrival: &Arrival<'_>) -> Result<Accepted, InboxError> {
        let partition = self.keys.partition_of(arrival.case_id.as_str());
        let keys = self.keys.of_partition(partition);
        let mut connection = self.connection(partition);
        let mut set = redis::cmd("SET");
        set.arg(keys.seen(arrival.key)).arg(scripts::body_hash(arrival.body));
        set.arg("NX").arg("PX").arg(duration_millis(self.retention));
        let is_new: Option<String> = self.bounded(set.query_async(&mut connection)).await?;
        if is_new.is_none() {
            return Ok(Accepted::Duplicate);
        }
        sleep(Duration::from_millis(20)).await;
        let stream = match arrival.place {
            Place::Inbox(feature) => keys.inbox(feature),
            Place::Quarantine => keys.quarantine(),
        };
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg("*").arg("key").arg(arrival.key.as_str()).arg("body").arg(arrival.body);
        add.arg("received").arg(to_millis(arrival.received_at));
        self.bounded(add.exec_async(&mut connection)).await?;
        Ok(Accepted::Stored)
    }
}
