//! Stores events.

use redis::{Cmd, Script};
use tokio::time::Instant;

use super::{
    Inbox, InboxError,
    arrival::{Arrival, Origin, Place},
    error::within,
    scripts,
};
use crate::{
    mutation,
    time::{duration_millis, to_millis},
};

/// The result of storing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The event is new, and is stored now.
    Stored,
    /// The event was stored before.
    Duplicate,
    /// The event was stored before with another body, which remains.
    Conflict,
    /// The event was backfilled before it arrived; or, for a backfilled event, the case is no
    /// longer missing an event.
    AlreadyBackfilled,
    /// The event was a dead letter, and is in the inbox again with the body that was stored first.
    Revived,
    /// The same, but it was delivered with another body.
    RevivedConflict,
}

/// The answers of `accept.lua`, `quarantine.lua` and `revive.lua`.
mod answer {
    pub(super) const STORED: i64 = 0;
    pub(super) const DUPLICATE: i64 = 1;
    pub(super) const CONFLICT: i64 = 2;
    pub(super) const ALREADY_BACKFILLED: i64 = 3;
    /// Only `accept.lua` gives this answer: the event is a dead letter, which `revive.lua` revives.
    pub(super) const DEAD_LETTER: i64 = 4;
    pub(super) const REVIVED: i64 = 5;
    pub(super) const REVIVED_CONFLICT: i64 = 6;
}

/// The approximate size in bytes of a store call's arguments, excluding the body.
const SIZE_OF_ARGUMENTS: usize = 256;

impl Inbox {
    /// Stores an event unless it is already known, atomically.
    ///
    /// Takes at most `ingest.store_timeout_ms`, including the confirmation that `redis.durability`
    /// asks for.
    ///
    /// # Errors
    /// Returns an error if the event is not known to be stored. The caller must not acknowledge it.
    pub async fn accept(&self, arrival: &Arrival<'_>) -> Result<Accepted, InboxError> {
        mutation::instead!(Atomicity => self.accept_in_two_steps(arrival).await);
        let deadline = Instant::now() + self.timeout;
        let stored = within(self.timeout, self.store(arrival, deadline)).await;
        if stored.is_err() {
            self.servers.refresh_layout_soon();
        }
        stored
    }

    async fn store(&self, arrival: &Arrival<'_>, deadline: Instant) -> Result<Accepted, InboxError> {
        let partition = self.keys.partition_of(arrival.case_id.as_str());
        let keys = self.keys.of_partition(partition);
        let seen = keys.seen(arrival.key);
        let server = self.servers.of_partition(partition);
        server.ensure_fit()?;
        let link = server.link(self.side);
        let mut stored = match arrival.place {
            Place::Inbox(feature) => {
                let inbox = keys.inbox(feature);
                let case = keys.case(arrival.case_id);
                let backfilled = keys.backfilled(feature, arrival.case_id);
                let call = self.call(&scripts::ACCEPT, &[&seen, &inbox, &case, &backfilled], arrival);
                link.store(&scripts::ACCEPT, &call).await?
            }
            Place::Quarantine => {
                let call = self.call(&scripts::QUARANTINE, &[&seen, &keys.quarantine()], arrival);
                link.store(&scripts::QUARANTINE, &call).await?
            }
        };
        if let (answer::DEAD_LETTER, Place::Inbox(feature)) = (stored.answer, arrival.place) {
            let (inbox, dead) = (keys.inbox(feature), keys.dead());
            let (history, marks) = (keys.history(), keys.history_marks());
            let mut call = self.call(&scripts::REVIVE, &[&seen, &inbox, &dead, &history, &marks], arrival);
            call.arg(self.history.limit);
            stored = link.store(&scripts::REVIVE, &call).await?;
        }
        let accepted = Accepted::decode(stored.answer)?;
        if is_stored_under_its_key(accepted, arrival.origin) {
            // A duplicate is confirmed too, because the request that stored the event may not have
            // waited for its confirmation.
            link.confirm(&stored.connection, seen, deadline).await?;
        }
        Ok(accepted)
    }

    fn call(&self, script: &Script, keys: &[&str], arrival: &Arrival<'_>) -> Cmd {
        let feature = match arrival.place {
            Place::Inbox(feature) => feature.as_str(),
            Place::Quarantine => "",
        };
        let mut call = scripts::call(script, keys, SIZE_OF_ARGUMENTS + arrival.body.len());
        call.arg(scripts::body_hash(arrival.body)).arg(duration_millis(self.retention));
        call.arg(arrival.key.as_str()).arg(arrival.body).arg(to_millis(arrival.received_at));
        call.arg(feature).arg(arrival.occurred_at.unix_millis());
        if let Origin::Backfilled { required } = arrival.origin {
            call.arg(required);
        } else if let Some(trace) = arrival.trace {
            call.arg("").arg("trace").arg(trace);
        }
        call
    }
}

impl Accepted {
    fn decode(answer: i64) -> Result<Self, InboxError> {
        match answer {
            answer::STORED => Ok(Self::Stored),
            answer::DUPLICATE => Ok(Self::Duplicate),
            answer::CONFLICT => Ok(Self::Conflict),
            answer::ALREADY_BACKFILLED => Ok(Self::AlreadyBackfilled),
            answer::REVIVED => Ok(Self::Revived),
            answer::REVIVED_CONFLICT => Ok(Self::RevivedConflict),
            unknown => Err(InboxError::UnknownAnswer(unknown)),
        }
    }
}

/// Returns whether Redis has a seen key for the event. If a backfilled event turns out not to be
/// missing any more, nothing is stored under its key.
fn is_stored_under_its_key(accepted: Accepted, origin: Origin) -> bool {
    accepted != Accepted::AlreadyBackfilled || origin == Origin::Sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_answer_is_an_error() {
        assert_eq!(Accepted::decode(0).unwrap(), Accepted::Stored);
        assert_eq!(Accepted::decode(1).unwrap(), Accepted::Duplicate);
        assert_eq!(Accepted::decode(2).unwrap(), Accepted::Conflict);
        assert_eq!(Accepted::decode(3).unwrap(), Accepted::AlreadyBackfilled);
        assert_eq!(Accepted::decode(5).unwrap(), Accepted::Revived);
        assert_eq!(Accepted::decode(6).unwrap(), Accepted::RevivedConflict);
        for unknown in [i64::MIN, -1, answer::DEAD_LETTER, 7, i64::MAX] {
            assert!(matches!(Accepted::decode(unknown), Err(InboxError::UnknownAnswer(answer)) if answer == unknown));
        }
    }

    #[test]
    fn only_a_backfilled_event_that_is_not_missing_is_stored_under_no_key() {
        let backfilled = Origin::Backfilled { required: 1 };
        for (accepted, origin, is_stored) in [
            (Accepted::Stored, Origin::Sent, true),
            (Accepted::Duplicate, Origin::Sent, true),
            (Accepted::AlreadyBackfilled, Origin::Sent, true),
            (Accepted::Stored, backfilled, true),
            (Accepted::Duplicate, backfilled, true),
            (Accepted::AlreadyBackfilled, backfilled, false),
        ] {
            assert_eq!(is_stored_under_its_key(accepted, origin), is_stored, "{accepted:?} {origin:?}");
        }
    }
}
