//! All of our keys in Redis.

use envelope::{CaseId, EventKey, Feature};

/// Names keys.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    partitions: u32,
}

/// Names one partition's keys. All of them have the same hash tag, `{prefix:partition}`, and so the same slot.
#[derive(Debug, Clone)]
pub struct PartitionKeys {
    tag: String,
}

impl Keys {
    /// Keys that begin with `prefix`, in that many partitions.
    pub fn new(prefix: &str, partitions: u32) -> Self {
        Self { prefix: prefix.to_owned(), partitions }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// `{prefix}:partitions`, a string: how many partitions there are. Written once, by whoever starts first.
    pub fn partition_count(&self) -> String {
        self.common("partitions")
    }

    /// `{prefix}:members`, a sorted set of the processes that work, by when they will have been silent for too long.
    pub fn members(&self) -> String {
        self.common("members")
    }

    /// `{prefix}:round`, with an expiry: somebody has looked for missed events not long ago.
    pub fn round(&self) -> String {
        self.common("round")
    }

    /// `{prefix}:last-round`, with an expiry: when somebody last looked at all cases.
    pub fn last_round(&self) -> String {
        self.common("last-round")
    }

    /// `{prefix}:paused`, a set of the features that are not worked on.
    pub fn paused(&self) -> String {
        self.common("paused")
    }

    /// `{prefix}:paused-version`, a number: how often that set was written.
    pub fn paused_version(&self) -> String {
        self.common("paused-version")
    }

    /// `{prefix}:keeps-to:<member>`, with an expiry: the version of the paused features that a process keeps to.
    pub fn keeps_to(&self, member: &str) -> String {
        self.common(&format!("keeps-to:{member}"))
    }

    /// A key of no partition. All of these have the hash tag `{prefix}`.
    fn common(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }

    /// The partition that a case is in.
    pub fn partition_of(&self, case_id: &str) -> u32 {
        partition_of(case_id, self.partitions)
    }

    /// The keys of a partition.
    pub fn of_partition(&self, partition: u32) -> PartitionKeys {
        PartitionKeys { tag: format!("{{{}:{partition}}}", self.prefix) }
    }
}

impl PartitionKeys {
    /// `{…}:seen:<event key>`, a string with an expiry: the hash of the body that was stored, in 16 characters; and of a dead
    /// letter `<hash> <entry among the dead letters>`.
    pub fn seen(&self, event: &EventKey) -> String {
        self.seen_as(event.as_str())
    }

    /// The same for an event whose key is stored.
    pub fn seen_as(&self, event_key: &str) -> String {
        format!("{}:seen:{event_key}", self.tag)
    }

    /// `{…}:inbox:<feature>`, a stream of `key`, `body`, `received` and `missed`: what is not dealt with.
    pub fn inbox(&self, feature: Feature) -> String {
        format!("{}:inbox:{feature}", self.tag)
    }

    /// `{…}:attempts:<feature>`, a hash from an inbox entry to `<tries> <due>`, due in milliseconds since 1970.
    pub fn attempts(&self, feature: Feature) -> String {
        format!("{}:attempts:{feature}", self.tag)
    }

    /// `{…}:case:<case>`, a hash with an expiry: for each feature how many events were received, how many of these are only
    /// taken as received (`<feature>:taken`), and since when each missing one has been known to be missing
    /// (`<feature>:missing`).
    pub fn case(&self, case: &CaseId<'_>) -> String {
        format!("{}:case:{case}", self.tag)
    }

    /// `{…}:late:<feature>:<case>`, a string with an expiry: when events were found to be missing that were made up for, and
    /// have not come after all.
    pub fn late(&self, feature: Feature, case: &CaseId<'_>) -> String {
        format!("{}:late:{feature}:{case}", self.tag)
    }

    /// `{…}:dead`, a stream of an inbox entry's fields and `code`, `detail`, `attempts` and `buried`.
    pub fn dead(&self) -> String {
        format!("{}:dead", self.tag)
    }

    /// `{…}:quarantine`, a stream of the same fields as the inbox: events that are not documented.
    pub fn quarantine(&self) -> String {
        format!("{}:quarantine", self.tag)
    }

    /// `{…}:lease`, a string with an expiry: the owner's fencing token, which is never given to anybody else.
    pub fn lease(&self) -> String {
        format!("{}:lease", self.tag)
    }
}

/// The 64-bit FNV-1a hash, modulo the partitions. It says where stored events are, so it can never change.
fn partition_of(case_id: &str, partitions: u32) -> u32 {
    let hash = case_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u32::try_from(hash % u64::from(partitions)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_stays_where_it_is() {
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
    fn a_partitions_keys_share_their_hash_tag() {
        let keys = Keys::new("edge", 16).of_partition(3);
        for key in [
            keys.inbox(Feature::Extraction),
            keys.attempts(Feature::Extraction),
            keys.dead(),
            keys.quarantine(),
            keys.lease(),
        ] {
            assert!(key.starts_with("{edge:3}:"), "{key}");
        }
    }
}
