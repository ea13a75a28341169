//! How many events of a feature TruEnroll must have sent for a case, by the case's uploads.

use std::time::{Duration, SystemTime};

use envelope::{Feature, Timestamp};

use crate::{
    partner_api::{Case, Upload},
    time::from_millis,
};

/// The uploads of a case that asked for a feature and are at their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// All of them.
    pub(super) all: u32,
    /// Those that ended at the time that was asked for, or later.
    pub(super) since: u32,
    /// Of these, those that ended longer ago than the grace period.
    pub(super) settled: u32,
}

impl Ended {
    /// Counts them. Without `since`, none is counted by its time.
    pub(super) fn count(case: &Case, feature: Feature, since: Option<SystemTime>, settled: SystemTime) -> Self {
        let mut ended = Self::default();
        for upload in case.uploads.iter().filter(|upload| upload.is_finished() && upload.requests(feature)) {
            ended.all = ended.all.saturating_add(1);
            if let (Some(since), Some(time)) = (since, time_of(upload))
                && time >= since
            {
                ended.since += 1;
                ended.settled += u32::from(time <= settled);
            }
        }
        ended
    }
}

/// How many uploads are at their end and state no time.
pub(super) fn undated(case: &Case) -> u64 {
    case.uploads.iter().filter(|upload| upload.is_finished() && time_of(upload).is_none()).count() as u64
}

/// When an upload ended, as far as can be told: `updatedAt`, or else `createdAt`.
fn time_of(upload: &Upload) -> Option<SystemTime> {
    ["updatedAt", "createdAt"].iter().find_map(|name| {
        let time = Timestamp::parse(upload.other.get(*name)?.as_str()?)?;
        // What is older than 1970 is as good as 1970.
        Some(from_millis(u64::try_from(time.unix_millis()).unwrap_or_default()))
    })
}

/// `now` minus the grace period.
pub(super) fn settled(now: SystemTime, grace: Duration) -> SystemTime {
    now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH)
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
        let (since, settled) = (at("2025-06-22T00:00:00Z"), at("2025-06-23T00:00:00Z"));
        let (before, within, late) = ("2025-06-21T23:59:59Z", "2025-06-22T00:00:00Z", "2025-06-23T00:00:01Z");
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
            let ended = Ended::count(&case, Feature::Extraction, Some(since), settled);
            assert_eq!((ended.all, ended.since, ended.settled), expected, "{upload}");
            let ended = Ended::count(&case, Feature::Extraction, None, settled);
            assert_eq!((ended.all, ended.since, ended.settled), (expected.0, 0, 0), "{upload}");
            assert_eq!(Ended::count(&case, Feature::Forensics, Some(since), settled), Ended::default());
        }
        assert_eq!(undated(&case(&[upload("completed", &[]), upload("processing", &[])])), 1);
    }

    #[test]
    fn no_grace_period_is_too_long() {
        assert_eq!(super::settled(SystemTime::now(), Duration::MAX), SystemTime::UNIX_EPOCH);
    }
}
