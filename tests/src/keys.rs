//! The keys of a backend with the default settings: the prefix `edge` and 16 partitions.

use backend::test_support::inbox::keys::{Keys, PartitionKeys};
use envelope::CaseId;

/// How many partitions a backend has by default.
pub const PARTITIONS: u32 = 16;

/// The keys of a backend with the default settings.
pub fn keys() -> Keys {
    Keys::new("edge", PARTITIONS)
}

/// The keys of one partition.
pub fn of_partition(partition: u32) -> PartitionKeys {
    keys().of_partition(partition)
}

/// The keys of every partition.
pub fn of_all_partitions() -> impl Iterator<Item = PartitionKeys> {
    (0..PARTITIONS).map(of_partition)
}

/// The keys of the partition that holds a case.
pub fn of_case(case: &CaseId<'_>) -> PartitionKeys {
    of_partition(keys().partition_of(case.as_str()))
}
