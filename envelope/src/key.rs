//! The identity of an event.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{CaseId, EventName, Timestamp};

/// The identity of an event: its name, its case and the instant at which the stage finished.
///
/// Written `case.extraction.completed:6850abc123def456ghi789:2025-06-22T10:30:00Z`. Only the last
/// part can contain a colon, so two different events never share a key. `externalId` is not part of
/// it, because it may be null; nor is the body, because a proxy may rewrite it. The stages of a
/// second upload to the same case finish at different instants, so its events have different keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(String);

impl EventKey {
    /// Returns the key of a documented event.
    pub fn new(event: EventName, case: &CaseId<'_>, occurred_at: Timestamp) -> Self {
        Self(format!("{event}:{case}:{occurred_at}"))
    }

    /// Returns the key of an undocumented event. Its name can contain anything, so the key contains
    /// part of the name's hash instead.
    pub fn of_unknown(name: &str, case: &CaseId<'_>, occurred_at: Timestamp) -> Self {
        let hash = Sha256::digest(name).iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte));
        Self(format!("unknown.{hash:016x}:{case}:{occurred_at}"))
    }

    /// Returns the key's text, which is visible ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
