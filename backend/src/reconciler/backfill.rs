//! Stores an event that never arrived.

use std::time::SystemTime;

use envelope::{Envelope, EventName, Timestamp};
use serde_json::json;

use super::Reconciler;
use crate::{
    inbox::{Accepted, Arrival, InboxError, Origin},
    partner_api::Case,
    time::to_millis,
};

impl Reconciler {
    /// Stores the event that has been missing since `missing_since`, unless the case has received
    /// `required` events of the feature meanwhile. Returns whether the event was stored.
    pub(super) async fn backfill(
        &self,
        case: &Case,
        name: EventName,
        missing_since: SystemTime,
        required: u32,
    ) -> Result<bool, InboxError> {
        let body = body(case, name, missing_since);
        let Ok(event) = Envelope::parse(body.as_bytes()) else { return Ok(false) };
        let key = event.key();
        let origin = Origin::Backfilled { required };
        let arrival = Arrival { origin, ..Arrival::now(&event, &key, body.as_bytes()) };
        let is_stored = self.inbox.accept(&arrival).await? == Accepted::Stored;
        if is_stored {
            tracing::warn!(event_key = key.as_str(), "backfilled an event that never arrived");
            self.metrics.backfilled_events.get_or_create(&name.into()).inc();
        }
        Ok(is_stored)
    }
}

/// Writes the body of a backfilled event, as TruEnroll would have sent it. The time at which the
/// stage finished is not known, so it is the time at which the event was found to be missing.
fn body(case: &Case, name: EventName, missing_since: SystemTime) -> String {
    let millis = i64::try_from(to_millis(missing_since)).unwrap_or(i64::MAX);
    let occurred_at = Timestamp::from_unix_millis(millis).to_string();
    let payload = json!({ "caseId": case.id, "externalId": case.external_id, "occurredAt": occurred_at });
    json!({ "eventName": name.as_str(), "payload": payload }).to_string()
}

#[cfg(test)]
mod tests {
    use envelope::{Feature, Stage};

    use super::*;
    use crate::time::from_millis;

    #[test]
    fn the_body_of_a_backfilled_event_is_a_valid_event() {
        let name = EventName { feature: Feature::Forensics, stage: Stage::Failed };
        for external_id in [None, Some("applicant \"9876\" \u{1} 😀")] {
            let case = json!({ "id": "6850abc123def456ghi789", "externalId": external_id, "status": "completed" });
            let case: Case = serde_json::from_value(case).unwrap();
            let body = body(&case, name, from_millis(1_750_588_200_123));
            let event = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(event.event, name);
            assert_eq!(event.case_id.as_str(), "6850abc123def456ghi789");
            assert_eq!(event.external_id.as_deref(), external_id);
            assert_eq!(event.occurred_at.to_string(), "2025-06-22T10:30:00.123Z");
        }
    }
}
