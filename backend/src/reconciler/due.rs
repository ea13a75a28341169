//! Decides which of a case's events are expected, and which of the missing ones are to be
//! backfilled.

use std::time::{Duration, SystemTime};

use envelope::Feature;

use super::finished::FinishedUploads;
use crate::inbox::{Comparison, Expected, MissingEvents};

/// What a round looks for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// What becomes of missing events. In a first round they are assumed received.
    pub(super) missing: MissingEvents,
    /// Events of uploads that finished at this time or later are not assumed received.
    pub(super) since: Option<SystemTime>,
    /// The features that the edge's policy enables.
    pub(super) features: Vec<Feature>,
}

/// The missing events of one feature of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Events to backfill. They are the ones that have been missing for the longest time.
    pub(super) backfill: usize,
    /// Events that may still arrive by themselves.
    pub(super) within_grace: usize,
}

impl Scope {
    /// Whether events of the feature are to be backfilled.
    pub(super) fn includes(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Returns what to ask the inbox about a feature of a case.
    pub(super) fn expected(&self, feature: Feature, finished: FinishedUploads) -> Expected {
        let required = finished.all;
        if !self.includes(feature) {
            // Once the feature is enabled again, these events must not be backfilled either.
            let missing = MissingEvents::AssumedReceived;
            return Expected { feature, required, missing, max_assumed_received: None };
        }
        let max_assumed_received = self.since.map(|_| finished.all - finished.since);
        Expected { feature, required, missing: self.missing, max_assumed_received }
    }
}

impl Due {
    /// Decides what to do about the missing events that the inbox has found.
    pub(super) fn of(found: &Comparison, finished: FinishedUploads, now: SystemTime, grace: Duration) -> Self {
        // Several events that are found at once differ by a millisecond each, so that the last of
        // them may be missing since a moment ahead of now.
        let is_over = |since: &&SystemTime| now.duration_since(**since).unwrap_or_default() >= grace;
        let over = found.missing_since.iter().filter(is_over).count();
        // An event that is no longer assumed received is missing only as of now. Whether it may
        // still arrive follows from the time at which its upload finished.
        let reopened = usize::try_from(found.reopened.min(finished.past_grace)).unwrap_or(usize::MAX);
        let backfill = over.saturating_add(reopened).min(found.missing_since.len());
        Self { backfill, within_grace: found.missing_since.len() - backfill }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(missing: MissingEvents, since: Option<SystemTime>) -> Scope {
        Scope { missing, since, features: vec![Feature::Extraction] }
    }

    #[test]
    fn what_is_expected_follows_from_the_round_and_the_policy() {
        use MissingEvents::{AssumedReceived, Noted};
        let finished = FinishedUploads { all: 5, since: 2, past_grace: 1 };
        let since = Some(SystemTime::UNIX_EPOCH);
        for (feature, scope, missing, max_assumed_received) in [
            (Feature::Extraction, scope(Noted, None), Noted, None),
            (Feature::Extraction, scope(AssumedReceived, None), AssumedReceived, None),
            (Feature::Extraction, scope(Noted, since), Noted, Some(3)),
            (Feature::Extraction, scope(AssumedReceived, since), AssumedReceived, Some(3)),
            // The policy disables the feature.
            (Feature::Forensics, scope(Noted, None), AssumedReceived, None),
            (Feature::Forensics, scope(Noted, since), AssumedReceived, None),
        ] {
            let expected = Expected { feature, required: 5, missing, max_assumed_received };
            assert_eq!(scope.expected(feature, finished), expected, "{feature} {scope:?}");
        }
    }

    #[test]
    fn missing_events_are_backfilled_once_their_grace_period_is_over() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let grace = Duration::from_secs(60);
        // Ages of the missing events in seconds, reopened events, their uploads past the grace
        // period, and the expected numbers of events to backfill and within the grace period.
        for (ages, reopened, past_grace, backfill, within_grace) in [
            (&[][..], 0, 0, 0, 0),
            (&[59], 0, 0, 0, 1),
            (&[60], 0, 0, 1, 0),
            (&[600, 60, 59, 0], 0, 0, 2, 2),
            // Found a moment ahead of now.
            (&[-5], 0, 0, 0, 1),
            (&[0, 0, 0], 3, 0, 0, 3),
            (&[0, 0, 0], 3, 2, 2, 1),
            (&[0, 0, 0], 1, 3, 1, 2),
            (&[600, 0, 0], 2, 2, 3, 0),
            // The inbox reports at most a part of the missing events.
            (&[0, 0], 5, 5, 2, 0),
            (&[], 5, 5, 0, 0),
        ] {
            let time = |age: &i64| match u64::try_from(*age) {
                Ok(age) => now - Duration::from_secs(age),
                Err(_) => now + Duration::from_secs(age.unsigned_abs()),
            };
            let missing_since = ages.iter().map(time).collect();
            let found = Comparison { newly_assumed_received: 0, reopened, received: 1, missing_since };
            let finished = FinishedUploads { all: 10, since: 10, past_grace };
            assert_eq!(
                Due::of(&found, finished, now, grace),
                Due { backfill, within_grace },
                "{ages:?}, {reopened} reopened, {past_grace} past the grace period"
            );
        }
    }

    #[test]
    fn without_a_grace_period_every_missing_event_is_backfilled() {
        let now = SystemTime::now();
        let missing_since = vec![now, now + Duration::from_millis(1)];
        let found = Comparison { newly_assumed_received: 0, reopened: 0, received: 0, missing_since };
        let due = Due::of(&found, FinishedUploads::default(), now, Duration::ZERO);
        assert_eq!(due, Due { backfill: 2, within_grace: 0 });
    }
}
