//! The API keys, of which there are several while a key is being replaced.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::header::{HeaderValue, InvalidHeaderValue};

use crate::{config::Secret, telemetry::LogLimit};

/// The keys, and which of them to use first.
pub(super) struct Keys {
    /// In the order of the setting: newest first.
    values: Vec<HeaderValue>,
    /// The position of the key that calls use first: one that the API has not rejected since the
    /// calls changed to it.
    first: AtomicUsize,
    log: LogLimit,
}

/// Minimum interval between log lines about rejected keys.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl Keys {
    pub(super) fn new(setting: &Secret) -> Result<Self, InvalidHeaderValue> {
        let value = |key| {
            let mut value = HeaderValue::from_str(key)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let values = setting.parts().map(value).collect::<Result<_, _>>()?;
        Ok(Self { values, first: AtomicUsize::new(0), log: LogLimit::every(LOG_INTERVAL) })
    }

    /// Returns each key once with its position, in the order in which a call uses them.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (usize, &HeaderValue)> {
        let first = self.first.load(Ordering::Relaxed);
        self.values.iter().enumerate().cycle().skip(first).take(self.values.len())
    }

    /// Has calls use the next key first, unless another call has changed that already.
    pub(super) fn reject(&self, position: usize) {
        if self.values.len() < 2 {
            return;
        }
        let next = (position + 1) % self.values.len();
        // If this fails, `first` is another key, and this rejection says nothing about that one.
        _ = self.first.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
        if let Some(suppressed) = self.log.allow() {
            tracing::warn!(
                key = position + 1,
                suppressed,
                "the Partner API rejected one of the keys in `partner_api.api_key` (401): the next call begins with the key \
                 after it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_first_until_it_is_rejected_itself() {
        for (setting, rejected, order) in [
            ("a", &[][..], "a"),
            ("a", &[0], "a"),
            ("a b c", &[], "abc"),
            (" a\n\tb  c\n", &[0], "bca"),
            ("a b c", &[0, 1], "cab"),
            // Concurrent calls were rejected with the same key.
            ("a b c", &[0, 0, 0], "bca"),
            // A key that is not the first one.
            ("a b c", &[2], "abc"),
            ("a b c", &[0, 1, 2], "abc"),
        ] {
            let keys = Keys::new(&Secret::new(setting)).unwrap();
            rejected.iter().for_each(|&position| keys.reject(position));
            let used: Vec<_> = keys.in_order().map(|(_, key)| key.to_str().unwrap()).collect();
            assert_eq!(used.concat(), order, "{setting:?} {rejected:?}");
            assert!(keys.in_order().all(|(_, key)| key.is_sensitive()));
        }
    }
}
