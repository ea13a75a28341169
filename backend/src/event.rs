//! An event as the inbox holds it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envelope::{CaseId, Envelope, EventKey, EventName, Feature, Rejection, Timestamp};

/// An accepted event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its identity.
    pub key: EventKey,
    /// Which event it is.
    pub name: EventName,
    /// The case it happened to.
    pub case_id: CaseId<'static>,
    /// The partner's own reference for the case. It may be personal data: not for logs.
    pub external_id: Option<String>,
    /// When the stage ended inside of TruEnroll.
    pub occurred_at: Timestamp,
    /// When we stored it.
    pub received_at: SystemTime,
    /// Whether it never came, and the reconciler made up for it.
    pub backfilled: bool,
}

/// What has to be handled in order: the events of one feature of one case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneId {
    /// The case.
    pub case_id: CaseId<'static>,
    /// The feature.
    pub feature: Feature,
}

impl Event {
    /// Reads a stored body.
    ///
    /// # Errors
    /// Where the body is not an event: it was stored by another version of this program, or by another program.
    pub fn parse(body: &[u8], received_at: SystemTime, backfilled: bool) -> Result<Self, Rejection> {
        let envelope = Envelope::parse(body)?;
        Ok(Self {
            key: envelope.key(),
            name: envelope.event,
            external_id: envelope.external_id.map(std::borrow::Cow::into_owned),
            occurred_at: envelope.occurred_at,
            case_id: envelope.case_id.into_owned(),
            received_at,
            backfilled,
        })
    }

    /// The lane that the event is in.
    pub fn lane(&self) -> LaneId {
        LaneId { case_id: self.case_id.clone(), feature: self.name.feature }
    }
}

/// A time as milliseconds since 1970, which is how we store it.
pub fn to_millis(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The opposite of [`to_millis`].
pub fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stored_number_is_too_large_for_a_time() {
        for millis in [0, 1, 1_750_588_200_000, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert_eq!(to_millis(from_millis(millis)), millis);
            assert!(from_millis(millis).duration_since(UNIX_EPOCH).is_ok());
        }
        assert_eq!(to_millis(UNIX_EPOCH - Duration::from_secs(1)), 0, "before 1970 is as good as 1970");
    }
}
