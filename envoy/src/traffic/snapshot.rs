//! The counters of Envoy and the filter, as one reading of Envoy's metrics shows them.

use std::collections::BTreeMap;

use envelope::Code;

use crate::ecds::FILTER;

/// The counters of Envoy and the filter, since Envoy started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Updates of the filter that Envoy rejected.
    pub rejected_updates: u64,
    /// Crashes of the filter's VM, counted by the attempts to restart it.
    pub crashes: u64,
    /// Answers on the public listener with a status of 500 and above.
    pub failed: u64,
    /// Answers on the public listener with a status below 400.
    pub answered: u64,
    /// Requests by verdict: `accepted`, `quarantined`, or the code of the rejection.
    pub verdicts: BTreeMap<String, u64>,
}

/// The fewest requests from which a share is computed.
const MIN_REQUESTS: u64 = 20;

impl Snapshot {
    /// Reads Envoy's metrics in Prometheus format.
    ///
    /// # Errors
    /// Returns the name of a metric that every Envoy with the filter has, if it is missing.
    pub fn parse(metrics: &str) -> Result<Self, String> {
        let rejected_updates = format!("envoy_extension_config_discovery_http_filter_{FILTER}_update_rejected");
        let crashes = format!("envoy_wasm_{FILTER}_vm_reload");
        let verdicts = format!("{FILTER}_requests");
        let mut snapshot = Self::default();
        let mut found = false;
        for line in metrics.lines() {
            let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let value: u64 = value.parse().unwrap_or_default();
            let label = |name: &str| labels.split(name).nth(1)?.split('"').next();
            if name == rejected_updates {
                snapshot.rejected_updates = value;
                found = true;
            } else if name.starts_with(&crashes) {
                snapshot.crashes += value;
            } else if name == verdicts {
                *snapshot.verdicts.entry(label("code=\"").unwrap_or_default().to_owned()).or_default() += value;
            } else if name == "envoy_http_downstream_rq_xx" && labels.contains("_prefix=\"edge\"") {
                match label("response_code_class=\"") {
                    Some("5") => snapshot.failed += value,
                    Some("2" | "3") => snapshot.answered += value,
                    _ => {}
                }
            }
        }
        if found { Ok(snapshot) } else { Err(rejected_updates) }
    }

    /// Returns the difference between these counters and those of `before`.
    pub fn since(&self, before: &Self) -> Self {
        let verdict = |(code, count): (&String, &u64)| {
            (code.clone(), count.saturating_sub(before.verdicts.get(code).copied().unwrap_or_default()))
        };
        Self {
            rejected_updates: self.rejected_updates.saturating_sub(before.rejected_updates),
            crashes: self.crashes.saturating_sub(before.crashes),
            failed: self.failed.saturating_sub(before.failed),
            answered: self.answered.saturating_sub(before.answered),
            verdicts: self.verdicts.iter().map(verdict).collect(),
        }
    }

    /// Returns the share of 5xx among all answers but 4xx, 0 to 1, or none if there are too few.
    pub(super) fn failed_share(&self) -> Option<f64> {
        share(self.failed, self.answered)
    }

    /// Returns the share of requests rejected with one of `codes` among these and the accepted
    /// ones, 0 to 1, or none if there are too few.
    pub(super) fn rejected_share(&self, codes: &[Code]) -> Option<f64> {
        let count = |code: &str| self.verdicts.get(code).copied().unwrap_or_default();
        let rejected = codes.iter().map(|code| count(code.as_str())).sum();
        share(rejected, count("accepted") + count("quarantined"))
    }
}

fn share(bad: u64, good: u64) -> Option<f64> {
    (bad + good >= MIN_REQUESTS).then(|| bad as f64 / (bad + good) as f64)
}
