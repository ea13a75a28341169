//! Log lines about what a filter that is newer than this backend sends. Each kind is written at
//! most once in [`INTERVAL`], since every request may cause one.

use std::time::Duration;

use envelope::{EventKey, Rejection};

use crate::telemetry::LogLimit;

/// The limits of the log lines.
pub(super) struct Log {
    unknown_mark: LogLimit,
    unreadable_event: LogLimit,
    unknown_event: LogLimit,
}

/// Minimum interval between two lines of a kind.
const INTERVAL: Duration = Duration::from_secs(5);

impl Log {
    pub(super) fn new() -> Self {
        let limit = || LogLimit::every(INTERVAL);
        Self { unknown_mark: limit(), unreadable_event: limit(), unknown_event: limit() }
    }

    /// Logs a mark that this backend does not know.
    pub(super) fn unknown_mark(&self, mark: &str, build: &str) {
        const LONGEST: usize = 64;
        let Some(suppressed) = self.unknown_mark.allow() else { return };
        let mark: String = mark.chars().take(LONGEST).collect();
        tracing::error!(
            mark,
            build,
            suppressed,
            "answered 503 to a request with a mark that this backend does not know: the filter is newer than the \
             backend. Upgrade the backends, or run `guardctl rollback`"
        );
    }

    /// Logs an event that the filter accepted or quarantined, and that this backend would reject.
    pub(super) fn unreadable_event(&self, rejection: &Rejection, build: &str) {
        let Some(suppressed) = self.unreadable_event.allow() else { return };
        tracing::error!(
            code = rejection.code.as_str(),
            build,
            suppressed,
            "answered 503 to an event that the filter accepted and this backend cannot read: the filter is newer than \
             the backend, or its `max_body_bytes` exceeds `ingest.max_body_bytes`. Upgrade the backends, or run \
             `guardctl rollback`"
        );
    }

    /// Logs an event that the filter accepted as documented, and that this backend has quarantined.
    pub(super) fn unknown_event(&self, key: &EventKey, build: &str) {
        let Some(suppressed) = self.unknown_event.allow() else { return };
        tracing::warn!(
            event_key = key.as_str(),
            build,
            suppressed,
            "the filter accepted an event that this backend does not know, so the backend quarantined it: upgrade the \
             backends, and then run `backend readmit`"
        );
    }
}
