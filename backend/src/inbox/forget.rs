//! Erases what is stored about a case.

use envelope::{CaseId, Feature};
use serde::Serialize;

use super::{Inbox, InboxError, Position, Source, scripts};

/// What is to be erased of a case.
#[derive(Debug, Clone, Default)]
pub struct Erasure {
    /// The entries.
    pub entries: Vec<Position>,
    /// The keys of the events whose seen keys are to be deleted.
    pub seen: Vec<String>,
    /// Whether the counts of the case are still needed, because some of its events are kept.
    pub keeps_counts: bool,
}

/// How much was erased of a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// Records of the history.
    pub records: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// Events in the inbox.
    pub pending: u64,
    /// Seen keys, and notes about backfilled events.
    pub keys: u64,
}

/// How many events of each feature a case has received, and how often records were erased from the
/// history of its partition, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received([Option<String>; 4], Option<String>);

/// About how many keys Redis examines at a time. It serves others in between.
const STEP: usize = 1_000;

impl Inbox {
    /// Returns what must not have changed until a case is erased.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn received(&self, case: &CaseId<'_>) -> Result<Received, InboxError> {
        let partition = self.partition_of(case);
        let keys = self.keys.of_partition(partition);
        let mut get = redis::pipe();
        get.cmd("HMGET").arg(keys.case(case)).arg(&Feature::ALL.map(Feature::as_str));
        get.cmd("HGET").arg(keys.history_marks()).arg("erased");
        let (counts, erased) = self.bounded(get.query_async(&mut self.connection(partition))).await?;
        Ok(Received(counts, erased))
    }

    /// Returns the keys of all events of a case that have a seen key. Examines all keys of the
    /// server, in steps.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn seen_of_case(&self, case: &CaseId<'_>) -> Result<Vec<String>, InboxError> {
        let partition = self.partition_of(case);
        let keys = self.keys.of_partition(partition);
        let pattern = keys.seen_pattern(case);
        let mut connection = self.connection(partition);
        let mut seen = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let (next, found): (String, Vec<String>) = self.bounded(scan.query_async(&mut connection)).await?;
            seen.extend(found.iter().filter_map(|key| keys.event_key(key).map(str::to_owned)));
            cursor = next;
            if cursor == "0" {
                // Redis may return a key more than once.
                seen.sort();
                seen.dedup();
                return Ok(seen);
            }
        }
    }

    /// Erases a part of what is stored about a case. Returns `None`, and erases nothing, if an event
    /// of the case has arrived or moved since `received` was read, or another command has erased
    /// records. To erase records, copies the history of the partition.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn erase(
        &self,
        case: &CaseId<'_>,
        received: &Received,
        erasure: &Erasure,
    ) -> Result<Option<Erased>, InboxError> {
        let partition = self.partition_of(case);
        let keys = self.keys.of_partition(partition);
        let mut call = scripts::FORGET.prepare_invoke();
        call.key(keys.case(case)).key(keys.history()).key(keys.dead()).key(keys.quarantine());
        for feature in Feature::ALL {
            call.key(keys.inbox(feature));
        }
        for feature in Feature::ALL {
            call.key(keys.attempts(feature));
        }
        call.key(keys.history_marks()).key(keys.history_copy(&format!("{:032x}", fastrand::u128(..))));
        for key in &erasure.seen {
            call.key(keys.seen_as(key));
        }
        for feature in Feature::ALL.into_iter().filter(|_| !erasure.keeps_counts) {
            call.key(keys.backfilled(feature, case));
        }
        for count in received.0.iter().chain([&received.1]) {
            call.arg(count.as_deref().unwrap_or_default());
        }
        call.arg(u8::from(erasure.keeps_counts));
        for position in &erasure.entries {
            call.arg(place(position.source)).arg(position.id.to_string()).arg(position.place);
        }
        loop {
            let answer: Option<Vec<u64>> = self.bounded(call.invoke_async(&mut self.connection(partition))).await?;
            match answer.as_deref() {
                None => return Ok(None),
                Some(&[records, dead_letters, quarantined, pending, keys]) => {
                    return Ok(Some(Erased { records, dead_letters, quarantined, pending, keys }));
                }
                // Another step of the copy. Redis copies faster than it adds entries.
                Some(_) => {}
            }
        }
    }
}

/// Returns the place of a stream among the keys of `forget.lua`, from 1.
fn place(source: Source) -> usize {
    match source {
        Source::History => 2,
        Source::Dead => 3,
        Source::Quarantine => 4,
        Source::Inbox(Feature::Classification) => 5,
        Source::Inbox(Feature::Extraction) => 6,
        Source::Inbox(Feature::Forensics) => 7,
        Source::Inbox(Feature::Translation) => 8,
    }
}
