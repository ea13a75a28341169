//! What makes an event the same event.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{CaseId, EventName, Timestamp};

/// An event's identity: its name, its case and the instant at which the stage ended.
///
/// Written `case.extraction.completed:6850abc123def456ghi789:2025-06-22T10:30:00Z`. No part but the last can hold a
/// colon, so two different events never share a key. `externalId` is left out because it may be null, the body because
/// a proxy may write it anew. A second upload to the same case ends its stages at other instants, so its events differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(String);

impl EventKey {
    /// The key of the event of that name that happened to `case` at `occurred_at`.
    pub fn new(event: EventName, case: &CaseId<'_>, occurred_at: Timestamp) -> Self {
        Self(format!("{event}:{case}:{occurred_at}"))
    }

    /// The key of an event that is not documented. Its name can hold anything, so a part of its hash stands for it.
    pub fn of_unknown(name: &str, case: &CaseId<'_>, occurred_at: Timestamp) -> Self {
        let hash = Sha256::digest(name).iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte));
        Self(format!("unknown.{hash:016x}:{case}:{occurred_at}"))
    }

    /// The key's characters, all of them visible ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
