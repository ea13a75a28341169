//! What a running Envoy says of itself.

use std::time::Duration;

use envelope::Policy;

use crate::ecds::FILTER;

/// Where a running Envoy can be asked.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Its listener for operators, `http://127.0.0.1:9902` for example.
    pub url: String,
}

/// What the filter did with requests to the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Let pass.
    pub passed: u64,
    /// Refused.
    pub refused: u64,
}

impl Judged {
    /// The share that was refused, 0 to 1; none where there were fewer than `least` requests.
    pub fn refused_share(self, least: u64) -> Option<f64> {
        let all = self.passed + self.refused;
        (all >= least.max(1)).then(|| self.refused as f64 / all as f64)
    }

    /// What has happened since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { passed: self.passed.saturating_sub(before.passed), refused: self.refused.saturating_sub(before.refused) }
    }
}

/// One question takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Edge {
    /// How many updates of the filter Envoy has refused since it started.
    ///
    /// # Errors
    /// Where Envoy does not answer, in a sentence.
    pub fn refused_updates(&self) -> Result<u64, String> {
        let series = format!("envoy_extension_config_discovery_http_filter_{FILTER}_update_rejected{{}} ");
        let metrics = self.metrics()?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("Envoy has no metric `{series}`"))
    }

    /// How many requests to the webhook the filter has let pass and refused since Envoy started. Those to other places are
    /// left out: they are scanners, and our own probes.
    ///
    /// # Errors
    /// Where Envoy does not answer, in a sentence.
    pub fn judged(&self) -> Result<Judged, String> {
        let mut judged = Judged { passed: 0, refused: 0 };
        for line in self.metrics()?.lines() {
            let Some((code, count)) =
                line.strip_prefix("webhook_guard_requests{code=\"").and_then(|rest| rest.split_once("\"} "))
            else {
                continue;
            };
            let count: u64 = count.parse().unwrap_or_default();
            match code {
                "accepted" | "quarantined" => judged.passed += count,
                "not_found" | "method_not_allowed" => {}
                _ => judged.refused += count,
            }
        }
        Ok(judged)
    }

    fn metrics(&self) -> Result<String, String> {
        let url = format!("{}/stats/prometheus", self.url);
        let mut answer = agent().get(&url).call().map_err(|error| format!("{url}: {error}"))?;
        answer.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))
    }

    /// Asks the filter, over a connection of its own, which build it is.
    ///
    /// # Errors
    /// Where Envoy does not answer, or where no filter did.
    pub fn probe(&self) -> Result<String, String> {
        let url = format!("{}{}", self.url, Policy::PROBE_PATH);
        let answer = agent().get(&url).call().map_err(|error| format!("{url}: {error}"))?;
        let build = answer.headers().get("x-edge-build").and_then(|build| build.to_str().ok());
        build.map(str::to_owned).ok_or_else(|| format!("status {} and no filter build", answer.status().as_u16()))
    }
}

fn agent() -> ureq::Agent {
    // No pool: every call has a connection of its own, and so reaches any of Envoy's workers.
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_idle_connections(0)
        .proxy(None)
        .build()
        .into()
}
