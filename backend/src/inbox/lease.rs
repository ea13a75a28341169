//! A lease on a partition, and the writes that require it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::EventKey;
use redis::{Script, ScriptInvocation, aio::ConnectionManager};
use tokio::time::Instant;

use super::{
    Entry, EntryId, Failures, Handled, Inbox, InboxError,
    failures::one_line,
    format::SUPPORTED,
    history::{RECORDS_PER_ENTRY, event_field},
    keys::PartitionKeys,
    scripts,
    servers::Server,
    stream::StreamEntry,
};
use crate::time::{duration_millis, to_millis};

/// A lease on a partition: exclusive ownership for a limited time.
///
/// A lease expires unless it is renewed. It is valid on one server only: if the partition moves to
/// another server, entries that the new server never received are gone, and it may give their
/// identifiers to other entries.
#[derive(Clone)]
pub struct Lease {
    inbox: Inbox,
    server: Arc<Server>,
    keys: PartitionKeys,
    partition: u32,
    /// The fencing token, which every write compares.
    token: Arc<str>,
    time_to_live: Duration,
    requested_at: Instant,
}

/// The lease is lost: the partition has another owner, or none. The call changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease on the partition is lost")]
pub struct LeaseLost;

/// Why a call that requires a lease failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// The lease is lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// Redis did not answer, or answered with an error.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

/// The numbers of unhandled events that were dropped after `redis.unhandled_retention_days`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Dead letters.
    pub dead_letters: u64,
    /// Quarantined events.
    pub quarantined: u64,
}

/// The answers of `acquire.lua` besides 0.
mod answer {
    pub(super) const ACQUIRED: i64 = 1;
    pub(super) const REFUSED: i64 = 2;
}

impl Lease {
    pub(super) async fn acquire(
        inbox: &Inbox,
        partition: u32,
        time_to_live: Duration,
    ) -> Result<Option<Self>, InboxError> {
        let keys = inbox.keys.of_partition(partition);
        let requested_at = Instant::now();
        let token = format!("{:032x}", fastrand::u128(..));
        let mut call = scripts::ACQUIRE.prepare_invoke();
        call.key(keys.lease()).key(keys.format());
        call.arg(&token).arg(duration_millis(time_to_live)).arg(SUPPORTED.newest);
        let server = inbox.servers.of_partition(partition);
        let acquired: i64 = inbox.bounded(call.invoke_async(&mut server.connection())).await?;
        if acquired == answer::REFUSED {
            // The next regular check may be 15 seconds away.
            match server.check().await {
                Ok(()) | Err(InboxError::Unfit(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((acquired == answer::ACQUIRED).then(|| Self {
            inbox: inbox.clone(),
            server,
            keys,
            partition,
            token: token.into(),
            time_to_live,
            requested_at,
        }))
    }

    /// Returns the number of the partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Returns how long the lease is valid after it was acquired or renewed.
    pub fn time_to_live(&self) -> Duration {
        self.time_to_live
    }

    /// Returns when the lease expires unless it is renewed.
    ///
    /// It counts from before the request for the lease was sent, since Redis cannot have started
    /// the lease any earlier.
    pub fn expires_at(&self) -> Instant {
        self.requested_at + self.time_to_live
    }

    pub(super) fn keys(&self) -> &PartitionKeys {
        &self.keys
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until the partition has moved to another server.
    pub async fn moved(&self) {
        let mut changes = self.inbox.servers.changes();
        while Arc::ptr_eq(&self.server, &self.inbox.servers.of_partition(self.partition)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Renews the lease for another [`Self::time_to_live`].
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        let mut call = self.call(&scripts::RENEW);
        call.arg(duration_millis(self.time_to_live));
        self.invoke(&call, self.connection()).await
    }

    /// Gives the lease back, so that another backend can acquire the partition at once.
    ///
    /// The request goes to the server that holds the partition now, which may not be the one that
    /// granted the lease.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn release(&self) -> Result<(), LeaseError> {
        self.invoke(&self.call(&scripts::RELEASE), self.inbox.connection(self.partition)).await
    }

    /// Returns an entry, or `None` if it has left the inbox.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn entry(&self, entry: EntryId) -> Result<Option<Entry>, InboxError> {
        let id = entry.to_string();
        let feature = entry.feature();
        let mut commands = redis::pipe();
        commands.cmd("XRANGE").arg(self.keys.inbox(feature)).arg(&id).arg(&id);
        commands.cmd("HGET").arg(self.keys.attempts(feature)).arg(&id);
        let mut connection = self.connection();
        let (found, attempts): (Vec<StreamEntry>, Option<String>) =
            self.inbox.bounded(commands.query_async(&mut connection)).await?;
        Ok(found.into_iter().next().map(|found| Entry::read(feature, found, attempts.as_deref())))
    }

    /// Returns an event whose last attempt succeeded after it had taken `took`, for
    /// [`Self::complete`]. `outcome` is the kind of its outcome.
    pub fn handled(&self, entry: &Entry, key: &EventKey, outcome: &str, took: Duration) -> Handled {
        match self.inbox.history.limit {
            0 => Handled::unrecorded(entry.id),
            _ => Handled::recorded(entry, key, outcome, took),
        }
    }

    /// Removes handled events of one feature from the inbox, and adds them to the history.
    /// Repeating the call changes nothing.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn complete(&self, events: &[Handled]) -> Result<(), LeaseError> {
        let Some(feature) = events.first().map(|event| event.entry.feature()) else { return Ok(()) };
        let mut call = self.call(&scripts::COMPLETE);
        call.key(self.keys.inbox(feature)).key(self.keys.attempts(feature));
        call.key(self.keys.history()).key(self.keys.history_marks());
        call.arg(self.inbox.history.limit).arg(events.len());
        for event in events {
            call.arg(event.entry.to_string());
        }
        if events.iter().all(Handled::is_recorded) {
            for entry in events.chunks(RECORDS_PER_ENTRY) {
                let records: Vec<_> = entry.iter().map(|event| event.record.as_str()).collect();
                call.arg(records.len()).arg(records.join("\n"));
            }
        }
        self.invoke(&call, self.connection()).await
    }

    /// Stores how many attempts an event has had, when the next one is due, and how the attempts
    /// have failed. If the memory of Redis is full, leaves out how they have failed.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn retry(
        &self,
        entry: EntryId,
        attempts: u32,
        due: SystemTime,
        failures: &Failures,
    ) -> Result<(), LeaseError> {
        let call = |script, rest: &str| {
            let mut call = self.call(script);
            call.key(self.keys.attempts(entry.feature())).key(self.keys.inbox(entry.feature()));
            call.arg(entry.to_string()).arg(attempts).arg(rest);
            call
        };
        let due = to_millis(due);
        match self.invoke(&call(&scripts::RETRY, format!("{due} {failures}").trim_end()), self.connection()).await {
            Err(LeaseError::Inbox(error)) if error.is_out_of_memory() => {
                self.invoke(&call(&scripts::RETRY_WHEN_FULL, &due.to_string()), self.connection()).await
            }
            answer => answer,
        }
    }

    /// Moves an event from the inbox to the dead letters. `detail` must not contain personal data.
    /// `failures` are all attempts that have failed, including the last one.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn dead_letter(
        &self,
        entry: &Entry,
        code: &str,
        detail: &str,
        attempts: u32,
        failures: &Failures,
    ) -> Result<(), LeaseError> {
        let id = entry.id.to_string();
        let feature = entry.id.feature();
        let inbox = self.keys.inbox(feature);
        let mut read = redis::cmd("XRANGE");
        read.arg(&inbox).arg(&id).arg(&id);
        let found: Vec<StreamEntry> = self.inbox.bounded(read.query_async(&mut self.connection())).await?;
        // Without an entry the script stores no dead letter, and does not use the seen key.
        let event_key: String = found.into_iter().next().and_then(|mut entry| entry.take("key")).unwrap_or_default();
        let took = failures.last().map(|last| last.took).unwrap_or_default();
        let mut call = self.call(&scripts::DEAD_LETTER);
        call.key(inbox).key(self.keys.attempts(feature)).key(self.keys.dead());
        call.key(self.keys.seen_as(&event_key)).key(self.keys.history()).key(self.keys.history_marks());
        let detail = one_line(detail);
        call.arg(id).arg(code).arg(&detail).arg(attempts).arg(to_millis(SystemTime::now()));
        call.arg(failures.to_string()).arg(self.inbox.history.limit);
        if self.inbox.history.limit > 0 {
            call.arg(event_field("dead", entry, attempts, took, &event_key) + &format!("\t{code} {detail}"));
        }
        self.invoke(&call, self.connection()).await
    }

    /// Drops the dead letters and quarantined events that are older than
    /// `redis.unhandled_retention_days`, and what the history has kept for
    /// `history.retention_days`.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if the lease is lost, [`LeaseError::Inbox`] if Redis does not
    /// answer.
    pub async fn expire(&self) -> Result<Expired, LeaseError> {
        let mut call = self.call(&scripts::EXPIRE);
        call.key(self.keys.dead()).key(self.keys.quarantine()).key(self.keys.history());
        call.arg(duration_millis(self.inbox.unhandled_retention)).arg(duration_millis(self.inbox.history.retention));
        let dropped: Option<(u64, u64)> = self.inbox.bounded(call.invoke_async(&mut self.connection())).await?;
        let (dead_letters, quarantined) = dropped.ok_or(LeaseLost)?;
        Ok(Expired { dead_letters, quarantined })
    }

    fn connection(&self) -> ConnectionManager {
        self.server.connection()
    }

    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.keys.lease()).arg(&*self.token);
        call
    }

    /// Runs a script that returns 1, or 0 if the token is no longer the partition's.
    async fn invoke(&self, call: &ScriptInvocation<'_>, mut connection: ConnectionManager) -> Result<(), LeaseError> {
        let is_owner: bool = self.inbox.bounded(call.invoke_async(&mut connection)).await?;
        if is_owner { Ok(()) } else { Err(LeaseLost.into()) }
    }
}
