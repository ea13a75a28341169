//! Erases everything that is stored about a case.

use std::collections::HashSet;

use envelope::CaseId;
use serde::Serialize;

use super::{parts, story::entries_of};
use crate::inbox::{Erased, Erasure, Inbox, InboxError, Kept, Stored};

/// What becomes of the events of the case that are in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingEvents {
    /// They stay, with everything that is stored about them.
    Kept,
    /// They are erased too, and never handled.
    Erased,
}

/// What was erased of a case, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// How much was erased.
    #[serde(flatten)]
    pub erased: Erased,
    /// How many events in the inbox were kept.
    pub kept_pending: u64,
}

/// Why a case was not erased.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Redis did not answer.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// Events of the case arrived or moved again and again meanwhile, or other cases of its partition
    /// were erased.
    #[error(
        "nothing was erased, because events of the case keep arriving or being handled, or other cases are being erased: try again"
    )]
    Busy,
}

/// How often to begin again if the case has changed meanwhile.
const MOST_ROUNDS: usize = 5;

/// Erases what is stored about a case: its dead letters, quarantined events and history, and that
/// its events were ever received.
///
/// # Errors
/// If Redis does not answer, or the case does not stop changing.
pub async fn forget(inbox: &Inbox, case: &CaseId<'_>, pending: PendingEvents) -> Result<Forgotten, ForgetError> {
    for _ in 0..MOST_ROUNDS {
        // If an event arrives after this, the script erases nothing.
        let received = inbox.received(case).await?;
        let entries = entries_of(inbox, case).await?;
        let seen = inbox.seen_of_case(case).await?;
        let (erasure, kept_pending) = plan(case, &entries, seen, pending);
        if let Some(erased) = inbox.erase(case, &received, &erasure).await? {
            return Ok(Forgotten { erased, kept_pending });
        }
    }
    Err(ForgetError::Busy)
}

/// Returns what to erase, and how many events in the inbox are kept.
fn plan(case: &CaseId<'_>, entries: &[Stored], seen: Vec<String>, pending: PendingEvents) -> (Erasure, u64) {
    let is_kept = |stored: &&Stored| pending == PendingEvents::Kept && matches!(stored.what, Kept::Pending(..));
    let kept: HashSet<_> = entries.iter().filter(is_kept).map(|stored| stored.what.key()).collect();
    // In Redis, the pattern for the case also matches times that look like it.
    let is_of_case = |key: &String| parts(key).is_some_and(|(_, found)| found == case.as_str());
    let erasure = Erasure {
        entries: entries
            .iter()
            .filter(|stored| !kept.contains(stored.what.key()))
            .map(|stored| stored.position)
            .collect(),
        seen: seen.into_iter().filter(|key| is_of_case(key) && !kept.contains(key.as_str())).collect(),
        keeps_counts: !kept.is_empty(),
    };
    (erasure, kept.len() as u64)
}

#[cfg(test)]
mod tests {
    use envelope::Feature;

    use super::*;
    use crate::events::story::tests::{KEY, RESULT, pending, record};
    use crate::inbox::{Position, Source};

    #[test]
    fn pending_events_are_erased_only_on_demand() {
        let case = CaseId::new("c1").unwrap();
        let other = KEY.replace("extraction", "forensics");
        let seen =
            || vec![KEY.to_owned(), other.clone(), "case.extraction.completed:c2:2025-06-22T10:c1:00Z".to_owned()];
        let entries = [pending("1000-0", 1_000, None), record("900-0", RESULT, 1_000)];
        let (erasure, kept) = plan(&case, &entries, seen(), PendingEvents::Kept);
        assert_eq!((erasure.entries, erasure.seen, erasure.keeps_counts, kept), (vec![], vec![other.clone()], true, 1));
        let (erasure, kept) = plan(&case, &entries, seen(), PendingEvents::Erased);
        let sources: Vec<_> = erasure.entries.iter().map(|Position { source, .. }| *source).collect();
        assert_eq!(sources, [Source::Inbox(Feature::Extraction), Source::History]);
        assert_eq!((erasure.seen, erasure.keeps_counts, kept), (vec![KEY.to_owned(), other], false, 0));
    }
}
