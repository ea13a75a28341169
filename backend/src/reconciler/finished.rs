//! Counts the finished uploads of a case, and so the events that TruEnroll must have sent for it.

use std::time::{Duration, SystemTime};

use envelope::{Feature, Timestamp};

use crate::{
    partner_api::{Case, Upload},
    time::from_millis,
};

/// How many uploads of a case requested a feature and have finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FinishedUploads {
    /// All of them.
    pub(super) all: u32,
    /// Those that finished at the time `since` or later.
    pub(super) since: u32,
    /// Those of `since` that finished longer ago than the grace period.
    pub(super) past_grace: u32,
}

impl FinishedUploads {
    /// Counts the finished uploads of a case that requested `feature`. Without `since`, only `all`
    /// is counted.
    pub(super) fn count(
        case: &Case,
        feature: Feature,
        since: Option<SystemTime>,
        now: SystemTime,
        grace: Duration,
    ) -> Self {
        let end_of_grace = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut counts = Self::default();
        for upload in case.uploads.iter().filter(|upload| upload.is_finished() && upload.requests(feature)) {
            counts.all = counts.all.saturating_add(1);
            if let (Some(since), Some(time)) = (since, finished_at(upload))
                && time >= since
            {
                counts.since += 1;
                counts.past_grace += u32::from(time <= end_of_grace);
            }
        }
        counts
    }
}

/// Counts the finished uploads that state no time.
pub(super) fn without_time(case: &Case) -> u64 {
    let is_without = |upload: &&Upload| upload.is_finished() && finished_at(upload).is_none();
    case.uploads.iter().filter(is_without).count() as u64
}

/// Returns when an upload finished, as far as it states it: `updatedAt`, or else `createdAt`.
fn finished_at(upload: &Upload) -> Option<SystemTime> {
    for name in ["updatedAt", "createdAt"] {
        let text = upload.other.get(name).and_then(|value| value.as_str());
        if let Some(time) = text.and_then(Timestamp::parse) {
            // A time before 1970 counts as 1970.
            return Some(from_millis(u64::try_from(time.unix_millis()).unwrap_or_default()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn case(uploads: &[Value]) -> Case {
        let case = json!({ "id": "c", "externalId": null, "status": "completed", "uploads": uploads });
        serde_json::from_value(case).unwrap()
    }

    fn upload(status: &str, times: &[(&str, &str)]) -> Value {
        let mut upload = json!({ "uploadId": "u", "status": status, "features": ["extraction"], "classify": false });
        for (name, time) in times {
            upload[*name] = json!(time);
        }
        upload
    }

    #[test]
    fn uploads_are_counted_by_their_own_times() {
        let at = |text: &str| from_millis(Timestamp::parse(text).unwrap().unix_millis().unsigned_abs());
        let since = at("2025-06-22T00:00:00Z");
        let grace = Duration::from_secs(86_400);
        let now = at("2025-06-23T00:00:00Z") + grace;
        let before = "2025-06-21T23:59:59Z";
        let within = "2025-06-22T00:00:00Z";
        let late = "2025-06-23T00:00:01Z";
        for (upload, expected) in [
            (upload("processing", &[("updatedAt", within)]), (0, 0, 0)),
            (upload("completed", &[]), (1, 0, 0)),
            (upload("completed", &[("updatedAt", before)]), (1, 0, 0)),
            (upload("failed", &[("updatedAt", within)]), (1, 1, 1)),
            (upload("completed", &[("updatedAt", late)]), (1, 1, 0)),
            (upload("completed", &[("createdAt", within)]), (1, 1, 1)),
            (upload("completed", &[("createdAt", within), ("updatedAt", before)]), (1, 0, 0)),
            (upload("completed", &[("createdAt", within), ("updatedAt", "yesterday")]), (1, 1, 1)),
            (upload("completed", &[("updatedAt", "1969-01-01T00:00:00Z")]), (1, 0, 0)),
        ] {
            let case = case(std::slice::from_ref(&upload));
            let finished = FinishedUploads::count(&case, Feature::Extraction, Some(since), now, grace);
            assert_eq!((finished.all, finished.since, finished.past_grace), expected, "{upload}");
            let finished = FinishedUploads::count(&case, Feature::Extraction, None, now, grace);
            assert_eq!((finished.all, finished.since, finished.past_grace), (expected.0, 0, 0), "{upload}");
            let finished = FinishedUploads::count(&case, Feature::Forensics, Some(since), now, grace);
            assert_eq!(finished, FinishedUploads::default(), "{upload}");
        }
        assert_eq!(without_time(&case(&[upload("completed", &[]), upload("processing", &[])])), 1);
    }

    #[test]
    fn no_upload_is_past_an_endless_grace_period() {
        let case = case(&[upload("completed", &[("updatedAt", "2025-06-22T00:00:00Z")])]);
        let since = Some(SystemTime::UNIX_EPOCH);
        let finished = FinishedUploads::count(&case, Feature::Extraction, since, SystemTime::now(), Duration::MAX);
        assert_eq!(finished, FinishedUploads { all: 1, since: 1, past_grace: 0 });
    }
}
