//! What Envoy says on its operators' listener: the filter's build, and its verdicts.

use std::time::Duration;

use envelope::{Policy, headers};
use serde::Serialize;

use super::rates::by_label;
use crate::http_client;

/// What the edge does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Edge {
    /// The build of the filter; `None` if Envoy does not name it.
    pub(super) build: Option<String>,
    /// Requests since Envoy started, by verdict: `accepted`, `quarantined` or the code of a
    /// rejection, the most frequent first.
    pub(super) verdicts: Vec<Verdict>,
}

/// How often the filter reached one verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// The verdict.
    pub(super) code: String,
    /// The number of requests.
    pub(super) requests: u64,
}

/// How long Envoy may take for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than the metrics of many builds of the filter.
const MAX_BYTES: usize = 1 << 20;
/// The filter's metrics among Envoy's.
const METRICS_PATH: &str = "/stats/prometheus?filter=truenroll_filter_requests";
const REQUESTS: &str = "truenroll_filter_requests";

/// Asks Envoy.
///
/// # Errors
/// Says why that is not possible, and what to do.
pub(super) async fn ask(url: &str) -> Result<Edge, String> {
    if url.is_empty() {
        return Err("Set `doctor.envoy_url` to see the filter's build and its verdicts here.".to_owned());
    }
    let url = url.trim_end_matches('/');
    let get = async |path: &str| {
        let got = http_client::get(&format!("{url}{path}"), PATIENCE, MAX_BYTES).await;
        got.map_err(|reason| format!("Envoy does not answer: {reason}."))
    };
    let metrics = get(METRICS_PATH).await?.body;
    let build = get(Policy::PROBE_PATH).await?.header(headers::BUILD).map(str::to_owned);
    Ok(Edge { build, verdicts: verdicts(&String::from_utf8_lossy(&metrics)) })
}

fn verdicts(metrics: &str) -> Vec<Verdict> {
    let mut verdicts: Vec<_> = by_label(metrics, REQUESTS, "code")
        .into_iter()
        .map(|(code, requests)| Verdict { code, requests })
        .filter(|verdict| verdict.requests > 0)
        .collect();
    verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.requests));
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_verdict_comes_first() {
        let metrics = "# TYPE truenroll_filter_requests counter\n\
                       truenroll_filter_requests{code=\"not_found\"} 3\n\
                       truenroll_filter_requests{code=\"empty_body\"} 0\n\
                       truenroll_filter_requests{code=\"accepted\"} 7\n";
        let verdict = |code: &str, requests| Verdict { code: code.to_owned(), requests };
        assert_eq!(verdicts(metrics), [verdict("accepted", 7), verdict("not_found", 3)]);
        assert_eq!(verdicts(""), []);
    }
}
