//! Stores events.

use redis::Cmd;
use tokio::time::{Instant, timeout_at};

use super::{Accepted, Arrival, Inbox, InboxError, Place, scripts};
use crate::time::to_millis;

/// What the arguments of a call that stores an event come to, besides the body, more or less.
const SIZE: usize = 256;

/// What `accept.lua` answers so, and `revive.lua` once it has brought the event back.
const KNOWN_AS_DEAD_LETTER: i64 = 4;

impl Inbox {
    /// Stores an event unless it is known, both in one step. All of it, confirmation included, takes no longer than
    /// `ingest.store_timeout_ms`.
    ///
    /// # Errors
    /// Where it is not known to be stored. The caller must not say yes.
    pub async fn accept(&self, arrival: &Arrival<'_>) -> Result<Accepted, InboxError> {
        #[cfg(feature = "mutations")]
        if crate::mutation::current() == Some(crate::mutation::Mutation::Atomicity) {
            return self.accept_in_two_steps(arrival).await;
        }
        let deadline = Instant::now() + self.timeout;
        let stored = match timeout_at(deadline, self.store(arrival, deadline)).await {
            Ok(stored) => stored,
            Err(_) => Err(InboxError::Timeout(self.timeout)),
        };
        if stored.is_err() {
            self.servers.doubt();
        }
        stored
    }

    async fn store(&self, arrival: &Arrival<'_>, deadline: Instant) -> Result<Accepted, InboxError> {
        let partition = self.keys.partition_of(arrival.case_id.as_str());
        let keys = self.keys.of_partition(partition);
        let seen = keys.seen(arrival.key);
        let (script, call) = match arrival.place {
            Place::Inbox(feature) => {
                let (inbox, case, late) =
                    (keys.inbox(feature), keys.case(arrival.case_id), keys.late(feature, arrival.case_id));
                let call = self.call(&scripts::ACCEPT, &[&seen, &inbox, &case, &late], arrival);
                (&scripts::ACCEPT, call)
            }
            Place::Quarantine => {
                (&scripts::SET_APART, self.call(&scripts::SET_APART, &[&seen, &keys.quarantine()], arrival))
            }
        };
        let server = self.servers.of_partition(partition);
        server.ensure_fit()?;
        let link = server.link(self.side);
        let (mut storing, mut answer) = link.store(script, &call).await?;
        if let (KNOWN_AS_DEAD_LETTER, Place::Inbox(feature)) = (answer, arrival.place) {
            let call = self.call(&scripts::REVIVE, &[&seen, &keys.inbox(feature), &keys.dead()], arrival);
            (storing, answer) = link.store(&scripts::REVIVE, &call).await?;
        }
        let accepted = match answer {
            0 => Accepted::Stored,
            1 => Accepted::Duplicate,
            2 => Accepted::Conflict,
            3 => Accepted::AlreadyBackfilled,
            KNOWN_AS_DEAD_LETTER => Accepted::Revived,
            other => return Err(InboxError::Server(format!("a script answered {other}, which means nothing"))),
        };
        // Of a missed event that somebody else has made up for nothing is stored with this key.
        if accepted != Accepted::AlreadyBackfilled || arrival.missed.is_none() {
            // A duplicate as well: whoever stored the event may not have waited to the end.
            link.confirm(&storing, seen, deadline).await?;
        }
        Ok(accepted)
    }

    fn call(&self, script: &redis::Script, keys: &[&str], arrival: &Arrival<'_>) -> Cmd {
        let feature = match arrival.place {
            Place::Inbox(feature) => feature.as_str(),
            Place::Quarantine => "",
        };
        let mut call = scripts::call(script, keys, SIZE + arrival.body.len());
        call.arg(scripts::body_hash(arrival.body)).arg(self.retention_millis());
        call.arg(arrival.key.as_str()).arg(arrival.body).arg(to_millis(arrival.received_at));
        call.arg(feature).arg(arrival.occurred_at.unix_millis());
        if let Some(must) = arrival.missed {
            call.arg(must);
        }
        call
    }

    /// What every naive receiver does.
    #[cfg(feature = "mutations")]
    async fn accept_in_two_steps(&self, arrival: &Arrival<'_>) -> Result<Accepted, InboxError> {
        let Arrival { place, key, case_id, body, received_at, .. } = *arrival;
        let partition = self.keys.partition_of(case_id.as_str());
        let (keys, mut connection) = (self.keys.of_partition(partition), self.connection(partition));
        let mut set = redis::cmd("SET");
        set.arg(keys.seen(key)).arg(scripts::body_hash(body)).arg("NX").arg("PX").arg(self.retention_millis());
        let is_new: Option<String> = self.bounded(set.query_async(&mut connection)).await?;
        if is_new.is_none() {
            return Ok(Accepted::Duplicate);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let stream = match place {
            Place::Inbox(feature) => keys.inbox(feature),
            Place::Quarantine => keys.quarantine(),
        };
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg("*").arg("key").arg(key.as_str()).arg("body").arg(body);
        add.arg("received").arg(to_millis(received_at));
        self.bounded(add.exec_async(&mut connection)).await?;
        Ok(Accepted::Stored)
    }
}
