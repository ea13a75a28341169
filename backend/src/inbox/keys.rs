//! The names of all keys in Redis.
//!
//! The names are part of the stored format ([`format`](super::format)): they stay the same when the
//! project renames a term.

use envelope::{CaseId, EventKey, Feature};

/// The names of the keys with one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    partitions: u32,
}

/// The names of one partition's keys. They share the hash tag `{prefix:partition}`, and so a slot.
#[derive(Debug, Clone)]
pub struct PartitionKeys {
    tag: String,
}

impl Keys {
    /// Returns the names of the keys that begin with `prefix`, for this number of partitions.
    pub fn new(prefix: &str, partitions: u32) -> Self {
        Self { prefix: prefix.to_owned(), partitions }
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// `{prefix}:partitions`, a string: the number of partitions. The backend that starts first
    /// writes it, and it never changes.
    pub fn partition_count(&self) -> String {
        self.common("partitions")
    }

    /// `{prefix}:members`, a sorted set: the working backends, by the time at which their
    /// registration expires.
    pub fn members(&self) -> String {
        self.common("members")
    }

    /// `{prefix}:round`, a string with an expiry: exists while no reconciler round may begin.
    pub fn round(&self) -> String {
        self.common("round")
    }

    /// `{prefix}:last-round`, a string with an expiry: when the last complete reconciler round
    /// ended.
    pub fn last_round(&self) -> String {
        self.common("last-round")
    }

    /// `{prefix}:paused`, a set: the paused features.
    pub fn paused(&self) -> String {
        self.common("paused")
    }

    /// `{prefix}:paused-version`, a number: how many times the paused features have been changed.
    pub fn paused_version(&self) -> String {
        self.common("paused-version")
    }

    /// `{prefix}:keeps-to:<member>`, a string with an expiry: the version of the paused features
    /// that a backend has confirmed.
    pub fn confirmed_pause(&self, member: &str) -> String {
        self.common(&format!("keeps-to:{member}"))
    }

    /// The keys that belong to no partition share the hash tag `{prefix}`.
    fn common(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }

    /// Returns the partition that holds a case.
    pub fn partition_of(&self, case_id: &str) -> u32 {
        partition_of(case_id, self.partitions)
    }

    /// Returns the names of a partition's keys.
    pub fn of_partition(&self, partition: u32) -> PartitionKeys {
        PartitionKeys { tag: format!("{{{}:{partition}}}", self.prefix) }
    }
}

impl PartitionKeys {
    /// `{…}:seen:<event key>`, a string with an expiry: the hash of the stored body in 16
    /// characters; for a dead letter `<hash> <entry in the dead letters>`.
    pub fn seen(&self, event: &EventKey) -> String {
        self.seen_as(event.as_str())
    }

    /// The same as [`Self::seen`], for an event key that was read from Redis.
    pub fn seen_as(&self, event_key: &str) -> String {
        format!("{}:seen:{event_key}", self.tag)
    }

    /// Returns a pattern that matches the seen keys of a case, and possibly a few others.
    pub fn seen_pattern(&self, case: &CaseId<'_>) -> String {
        let is_special = |character| matches!(character, '*' | '?' | '[' | ']' | '^' | '\\');
        let escaped = |character| is_special(character).then_some('\\').into_iter().chain([character]);
        let tag: String = self.tag.chars().flat_map(escaped).collect();
        format!("{tag}:seen:*:{case}:*")
    }

    /// Returns the event key in the name of a seen key.
    pub fn event_key<'a>(&self, seen: &'a str) -> Option<&'a str> {
        seen.strip_prefix(self.tag.as_str())?.strip_prefix(":seen:")
    }

    /// `{…}:inbox:<feature>`, a stream: the events that are neither completed nor dead letters.
    /// Fields: `key`, `body`, `received` and `missed` (1 for a backfilled event).
    pub fn inbox(&self, feature: Feature) -> String {
        format!("{}:inbox:{feature}", self.tag)
    }

    /// `{…}:attempts:<feature>`, a hash from an entry of the inbox to `<attempts> <due> <failures>`.
    /// `due` is in milliseconds since 1970. The failures may be missing.
    pub fn attempts(&self, feature: Feature) -> String {
        format!("{}:attempts:{feature}", self.tag)
    }

    /// `{…}:case:<case>`, a hash with an expiry. For each feature: how many events were received,
    /// how many of these are only assumed received (`<feature>:taken`), and when each missing event
    /// was first found to be missing (`<feature>:missing`). For each event that was delivered again
    /// (`again:<event key>`): how often with the same body, how often with another one, and when last.
    pub fn case(&self, case: &CaseId<'_>) -> String {
        format!("{}:case:{case}", self.tag)
    }

    /// `{…}:late:<feature>:<case>`, a string with an expiry: for each backfilled event whose
    /// original has not arrived since, the time at which it was found to be missing.
    pub fn backfilled(&self, feature: Feature, case: &CaseId<'_>) -> String {
        format!("{}:late:{feature}:{case}", self.tag)
    }

    /// `{…}:history`, a stream: what became of the events. Field `events`: a line for each record (what
    /// happened, when the event was received, the number of attempts, how long the last one took,
    /// whether the event was `sent` or `backfilled`, and its key; after a tab the last error, code and
    /// detail). An entry of an older backend has one record in the field `event`, and the error in
    /// `error`.
    pub fn history(&self) -> String {
        format!("{}:history", self.tag)
    }

    /// `{…}:history-marks`, a hash: `records` (how many records have been added), `erased` (how often
    /// records were erased), and 16 marks, by which the length of the history is limited
    /// (`record.lua`).
    pub fn history_marks(&self) -> String {
        format!("{}:history-marks", self.tag)
    }

    /// `{…}:history-copy:<token>`, a stream with an expiry: the history without the records that
    /// `backend forget` erases, until it replaces the history (`forget.lua`).
    pub fn history_copy(&self, token: &str) -> String {
        format!("{}:history-copy:{token}", self.tag)
    }

    /// `{…}:dead`, a stream: the dead letters. Fields: those of the inbox, `code`, `detail`,
    /// `attempts`, `failures` and `buried` (when it became a dead letter).
    pub fn dead(&self) -> String {
        format!("{}:dead", self.tag)
    }

    /// `{…}:quarantine`, a stream with the fields of the inbox: the undocumented events.
    pub fn quarantine(&self) -> String {
        format!("{}:quarantine", self.tag)
    }

    /// `{…}:lease`, a string with an expiry: the fencing token of the partition's owner.
    pub fn lease(&self) -> String {
        format!("{}:lease", self.tag)
    }

    /// `{…}:format`, a hash with the fields `format` (the newest format that a backend has
    /// written), `required` (the format that a backend must know to work on the partition) and
    /// `version` (of the backend that wrote the format first). Missing in format 0.
    pub fn format(&self) -> String {
        format!("{}:format", self.tag)
    }
}

/// Returns the 64-bit FNV-1a hash modulo the number of partitions. It determines where stored
/// events are, so it can never change.
fn partition_of(case_id: &str, partitions: u32) -> u32 {
    let hash = case_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u32::try_from(hash % u64::from(partitions)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use envelope::Envelope;

    use super::*;

    #[test]
    fn the_partition_of_a_case_never_changes() {
        for (case, partition) in [("6850abc123def456ghi789", 0), ("a", 12), ("_", 14)] {
            assert_eq!(partition_of(case, 16), partition, "{case}");
        }
    }

    #[test]
    fn cases_spread_evenly() {
        let mut counts = [0; 16];
        for case in 0..16_000 {
            counts[partition_of(&format!("case-{case}"), 16) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn the_stored_names_never_change() {
        let body = br#"{"eventName":"case.extraction.completed","payload":
            {"caseId":"c1","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
        let event = Envelope::parse(body).unwrap();
        let keys = Keys::new("edge", 16);
        let partition = keys.of_partition(3);
        for (key, name) in [
            (keys.partition_count(), "{edge}:partitions"),
            (keys.members(), "{edge}:members"),
            (keys.round(), "{edge}:round"),
            (keys.last_round(), "{edge}:last-round"),
            (keys.paused(), "{edge}:paused"),
            (keys.paused_version(), "{edge}:paused-version"),
            (keys.confirmed_pause("m"), "{edge}:keeps-to:m"),
            (partition.seen(&event.key()), "{edge:3}:seen:case.extraction.completed:c1:2025-06-22T10:30:00Z"),
            (partition.inbox(Feature::Extraction), "{edge:3}:inbox:extraction"),
            (partition.attempts(Feature::Extraction), "{edge:3}:attempts:extraction"),
            (partition.case(&event.case_id), "{edge:3}:case:c1"),
            (partition.backfilled(Feature::Extraction, &event.case_id), "{edge:3}:late:extraction:c1"),
            (partition.history(), "{edge:3}:history"),
            (partition.history_marks(), "{edge:3}:history-marks"),
            (partition.history_copy("t"), "{edge:3}:history-copy:t"),
            (partition.dead(), "{edge:3}:dead"),
            (partition.quarantine(), "{edge:3}:quarantine"),
            (partition.lease(), "{edge:3}:lease"),
            (partition.format(), "{edge:3}:format"),
        ] {
            assert_eq!(key, name);
        }
    }

    #[test]
    fn the_pattern_of_a_case_matches_no_other_prefix() {
        let case = CaseId::new("c1").unwrap();
        assert_eq!(Keys::new("edge", 16).of_partition(3).seen_pattern(&case), "{edge:3}:seen:*:c1:*");
        let partition = Keys::new("a[b]*", 16).of_partition(3);
        assert_eq!(partition.seen_pattern(&case), r"{a\[b\]\*:3}:seen:*:c1:*");
        assert_eq!(partition.event_key(&partition.seen_as("x:c1:t")), Some("x:c1:t"));
        assert_eq!(partition.event_key("{a:3}:seen:x:c1:t"), None);
    }
}
