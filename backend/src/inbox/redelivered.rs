//! How often events were delivered again after they had been stored.

use std::time::SystemTime;

use envelope::CaseId;
use serde::Serialize;

use super::{Inbox, InboxError};
use crate::time::{as_millis, from_millis};

/// The deliveries of an event that was stored already, and was not a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redelivered {
    /// How often it was delivered again with the same body.
    pub same_body: u64,
    /// How often it was delivered again with another body.
    pub other_body: u64,
    /// When it was last delivered again.
    #[serde(rename = "lastAtMs", serialize_with = "as_millis")]
    pub last_at: SystemTime,
}

impl Inbox {
    /// Returns for each of these events of a case how often it was delivered again, or `None` if
    /// it was not.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn redelivered(
        &self,
        case: &CaseId<'_>,
        event_keys: impl Iterator<Item = &str>,
    ) -> Result<Vec<Option<Redelivered>>, InboxError> {
        let fields: Vec<_> = event_keys.map(|key| format!("again:{key}")).collect();
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let partition = self.partition_of(case);
        let mut get = redis::cmd("HMGET");
        get.arg(self.keys.of_partition(partition).case(case)).arg(fields);
        let found: Vec<Option<String>> = self.bounded(get.query_async(&mut self.connection(partition))).await?;
        Ok(found.into_iter().map(|text| Redelivered::parse(&text?)).collect())
    }
}

impl Redelivered {
    /// Reads what `accept.lua` has counted.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { same_body: next()?, other_body: next()?, last_at: from_millis(next()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_if_it_is_complete() {
        let read = |text| {
            Redelivered::parse(text)
                .map(|found| (found.same_body, found.other_body, crate::time::to_millis(found.last_at)))
        };
        for (text, expected) in [
            ("2 1 1750588200000", Some((2, 1, 1_750_588_200_000))),
            ("1 0 5", Some((1, 0, 5))),
            ("2 1", None),
            ("x 1 5", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
