//! The names of the checks.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// The name of a check. `docs/OPERATIONS.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// All checks, in the order in which they are shown.
    pub const ALL: [Self; 22] = [
        Self::Configuration,
        Self::RedisReachable,
        Self::RedisVersion,
        Self::RedisLatency,
        Self::RedisDurability,
        Self::RedisEviction,
        Self::RedisMemory,
        Self::RedisFormat,
        Self::PartnerApi,
        Self::PartnerApiPaging,
        Self::Sink,
        Self::SinkSignature,
        Self::SinkTest,
        Self::EnvoyBuild,
        Self::EnvoyProof,
        Self::Authenticity,
        Self::ClockRedis,
        Self::ClockPartnerApi,
        Self::Partitions,
        Self::Backlog,
        Self::DeadLetters,
        Self::Spool,
    ];

    /// Returns the name as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::RedisReachable => "redis-reachable",
            Self::RedisVersion => "redis-version",
            Self::RedisLatency => "redis-latency",
            Self::RedisDurability => "redis-durability",
            Self::RedisEviction => "redis-eviction",
            Self::RedisMemory => "redis-memory",
            Self::RedisFormat => "redis-format",
            Self::PartnerApi => "partner-api",
            Self::PartnerApiPaging => "partner-api-paging",
            Self::Sink => "sink",
            Self::SinkSignature => "sink-signature",
            Self::SinkTest => "sink-test",
            Self::EnvoyBuild => "envoy-build",
            Self::EnvoyProof => "envoy-proof",
            Self::Authenticity => "authenticity",
            Self::ClockRedis => "clock-redis",
            Self::ClockPartnerApi => "clock-partner-api",
            Self::Partitions => "partitions",
            Self::Backlog => "backlog",
            Self::DeadLetters => "dead-letters",
            Self::Spool => "spool",
        }
    }

    /// Returns how long the check may take.
    pub(super) fn time_limit(self) -> Duration {
        if self == Self::SinkTest { SINK_TIME_LIMIT } else { TIME_LIMIT }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_check_is_described_in_operations_md() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        for name in Name::ALL {
            assert!(page.contains(&format!("\n| `{name}` | ")), "docs/OPERATIONS.md has no row for `{name}`");
        }
        assert_eq!(HashSet::from(Name::ALL).len(), Name::ALL.len(), "a check is listed twice");
    }
}
