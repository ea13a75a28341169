//! A partition's ownership, and the writes that need it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use redis::{Script, ScriptInvocation, aio::ConnectionManager};
use tokio::time::Instant;

use super::{Entry, EntryId, Inbox, InboxError, keys::PartitionKeys, scripts, servers::Server, stream::StreamEntry};
use crate::event::to_millis;

/// A partition's ownership. It ends by itself unless it is renewed, and it ends when another server holds the partition: that
/// one may give new entries identifiers that entries had which it does not know.
#[derive(Clone)]
pub struct Lease {
    inbox: Inbox,
    server: Arc<Server>,
    keys: PartitionKeys,
    partition: u32,
    token: Arc<str>,
    time_to_live: Duration,
    asked: Instant,
}

/// The lease is lost: the partition has another owner, or none, and nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

/// How many events were dropped, since nobody looked after them for too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Dead letters.
    pub dead_letters: u64,
    /// Events in quarantine.
    pub quarantined: u64,
}

impl Lease {
    pub(super) async fn acquire(
        inbox: &Inbox,
        partition: u32,
        time_to_live: Duration,
    ) -> Result<Option<Self>, InboxError> {
        let keys = inbox.keys.of_partition(partition);
        let asked = Instant::now();
        let token = format!("{:032x}", fastrand::u128(..));
        let mut call = scripts::ACQUIRE.prepare_invoke();
        call.key(keys.lease()).arg(&token).arg(milliseconds(time_to_live));
        let server = inbox.servers.of_partition(partition);
        let is_ours: bool = inbox.bounded(call.invoke_async(&mut server.connection())).await?;
        Ok(is_ours.then(|| Self {
            inbox: inbox.clone(),
            server,
            keys,
            partition,
            token: token.into(),
            time_to_live,
            asked,
        }))
    }

    /// The partition that is owned.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// How long the lease lasts after it was taken or renewed.
    pub fn time_to_live(&self) -> Duration {
        self.time_to_live
    }

    /// When the lease has run out if it is not renewed: counted from before it was asked for, since it may have begun as
    /// soon as that.
    pub fn runs_out(&self) -> Instant {
        self.asked + self.time_to_live
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

    /// Waits until another server holds the partition.
    pub async fn moved(&self) {
        let mut changes = self.inbox.servers.changes();
        while Arc::ptr_eq(&self.server, &self.inbox.servers.of_partition(self.partition)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Prolongs the lease.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn renew(&self) -> Result<Result<(), Fenced>, InboxError> {
        let mut call = self.call(&scripts::RENEW);
        call.arg(milliseconds(self.time_to_live));
        self.fenced(&call).await
    }

    /// Gives the lease back, so that somebody else can have the partition at once: to whichever server holds it now.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn release(&self) -> Result<Result<(), Fenced>, InboxError> {
        let call = self.call(&scripts::RELEASE);
        let done: bool = self.inbox.bounded(call.invoke_async(&mut self.inbox.connection(self.partition))).await?;
        Ok(if done { Ok(()) } else { Err(Fenced) })
    }

    /// An entry, if it is still in the inbox.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn entry(&self, entry: EntryId) -> Result<Option<Entry>, InboxError> {
        let (id, feature) = (entry.to_string(), entry.feature());
        let mut commands = redis::pipe();
        commands.cmd("XRANGE").arg(self.keys.inbox(feature)).arg(&id).arg(&id);
        commands.cmd("HGET").arg(self.keys.attempts(feature)).arg(&id);
        let mut connection = self.connection();
        let (found, tried): (Vec<StreamEntry>, Option<String>) =
            self.inbox.bounded(commands.query_async(&mut connection)).await?;
        Ok(found.into_iter().next().map(|found| Entry::read(feature, found, tried.as_deref())))
    }

    /// Takes events of one feature that were handled out of the inbox.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn complete(&self, entries: &[EntryId]) -> Result<Result<(), Fenced>, InboxError> {
        let Some(feature) = entries.first().map(|entry| entry.feature()) else { return Ok(Ok(())) };
        let mut call = self.call(&scripts::COMPLETE);
        call.key(self.keys.inbox(feature)).key(self.keys.attempts(feature));
        for entry in entries {
            call.arg(entry.to_string());
        }
        self.fenced(&call).await
    }

    /// Notes that an event was tried, and that it waits until `due`.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn retry(
        &self,
        entry: EntryId,
        attempts: u32,
        due: SystemTime,
    ) -> Result<Result<(), Fenced>, InboxError> {
        let mut call = self.call(&scripts::RETRY);
        call.key(self.keys.attempts(entry.feature())).arg(entry.to_string()).arg(attempts).arg(to_millis(due));
        self.fenced(&call).await
    }

    /// Makes an event a dead letter. `detail` must not hold personal data.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn bury(
        &self,
        entry: EntryId,
        code: &str,
        detail: &str,
        attempts: u32,
    ) -> Result<Result<(), Fenced>, InboxError> {
        let (id, inbox) = (entry.to_string(), self.keys.inbox(entry.feature()));
        let mut read = redis::cmd("XRANGE");
        read.arg(&inbox).arg(&id).arg(&id);
        let found: Vec<StreamEntry> = self.inbox.bounded(read.query_async(&mut self.connection())).await?;
        // Where there is no entry nothing is buried either, and the seen key does not matter.
        let event_key: String = found.into_iter().next().and_then(|mut entry| entry.take("key")).unwrap_or_default();
        let mut call = self.call(&scripts::BURY);
        call.key(inbox).key(self.keys.attempts(entry.feature())).key(self.keys.dead());
        call.key(self.keys.seen_as(&event_key));
        call.arg(id).arg(code).arg(detail).arg(attempts).arg(to_millis(SystemTime::now()));
        self.fenced(&call).await
    }

    /// Drops what is not to be kept any longer of the dead letters and of the quarantine.
    ///
    /// # Errors
    /// Where Redis does not answer.
    pub async fn expire(&self) -> Result<Expired, InboxError> {
        if self.inbox.unhandled_retention.is_zero() {
            return Ok(Expired::default());
        }
        let mut call = self.call(&scripts::EXPIRE);
        call.key(self.keys.dead()).key(self.keys.quarantine()).arg(milliseconds(self.inbox.unhandled_retention));
        let dropped: Option<(u64, u64)> = self.inbox.bounded(call.invoke_async(&mut self.connection())).await?;
        let (dead_letters, quarantined) = dropped.unwrap_or_default();
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

    async fn fenced(&self, call: &ScriptInvocation<'_>) -> Result<Result<(), Fenced>, InboxError> {
        let done: bool = self.inbox.bounded(call.invoke_async(&mut self.connection())).await?;
        Ok(if done { Ok(()) } else { Err(Fenced) })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
