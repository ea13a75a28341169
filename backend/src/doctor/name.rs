//! The names of the checks.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

/// The name of a check. `docs/OPERATIONS.md` describes each. The checks are shown in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "`docs/OPERATIONS.md` describes each check")]
pub enum Name {
    Configuration,
    RedisReachable,
    RedisVersion,
    RedisLatency,
    RedisDurability,
    RedisEviction,
    RedisMemory,
    RedisFormat,
    PartnerApi,
    PartnerApiPaging,
    Sink,
    SinkSignature,
    SinkTest,
    EnvoyBuild,
    EnvoyProof,
    Authenticity,
    ClockRedis,
    ClockPartnerApi,
    Partitions,
    Backlog,
    DeadLetters,
    Spool,
}

/// The time limit of a check.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The time limit of the test of the sink, which may be slow.
const SINK_TIME_LIMIT: Duration = Duration::from_secs(40);

impl Name {
    /// Returns how long the check may take.
    pub(super) fn time_limit(self) -> Duration {
        if self == Self::SinkTest { SINK_TIME_LIMIT } else { TIME_LIMIT }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_described_in_operations_md() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        for name in Name::value_variants() {
            assert!(page.contains(&format!("\n| `{name}` | ")), "docs/OPERATIONS.md has no row for `{name}`");
        }
    }
}
