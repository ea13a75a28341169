//! How much was counted in the last hour. Metrics are totals since the start, so they are read every
//! ten seconds, and the differences are kept for an hour.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use envelope::Feature;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Context,
    chart::{Chart, Row},
};

/// The charts: title, metric and label.
const CHARTS: [(&str, &str, &str); 5] = [
    ("Handled, by feature", "truenroll_backend_handled_total", "feature"),
    ("Handled, by outcome", "truenroll_backend_handled_total", "outcome"),
    ("Answers to the edge", "truenroll_backend_ingest_total", "answer"),
    ("Failed attempts, by code", "truenroll_backend_retries_total", "code"),
    ("Dead letters, by code", "truenroll_backend_dead_letters_total", "code"),
];
/// The positions of charts that have a meaning of their own.
const BY_FEATURE: usize = 0;
const BY_ANSWER: usize = 2;

/// How often the metrics are read.
const INTERVAL: Duration = Duration::from_secs(10);
const READINGS_PER_MINUTE: usize = 6;
const MINUTES: usize = 60;

/// What was counted in the last hour.
pub(super) struct Rates {
    /// By the position in [`CHARTS`] and the label's value.
    counters: BTreeMap<(usize, String), Counter>,
}

#[derive(Default)]
struct Counter {
    total: u64,
    /// The differences between two readings, the newest last.
    differences: VecDeque<u64>,
}

/// Reads the metrics every ten seconds until the console stops.
pub(super) async fn sample(context: Arc<Context>) {
    let mut readings = interval(INTERVAL);
    readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while context.stop.run_until_cancelled(readings.tick()).await.is_some() {
        let metrics = context.metrics.encode();
        context.rates.lock().unwrap_or_else(PoisonError::into_inner).add(&metrics);
        context.has_changed();
    }
}

impl Rates {
    /// Returns the rates of a backend that has counted nothing yet.
    pub(super) fn new() -> Self {
        let of_feature = |feature: Feature| ((BY_FEATURE, feature.as_str().to_owned()), Counter::default());
        Self { counters: Feature::ALL.map(of_feature).into() }
    }

    /// Adds a reading of the metrics.
    fn add(&mut self, metrics: &str) {
        for (position, (_, metric, label)) in CHARTS.into_iter().enumerate() {
            for (value, total) in by_label(metrics, metric, label) {
                let counter = self.counters.entry((position, value)).or_default();
                counter.differences.push_back(total.saturating_sub(counter.total));
                counter.total = total;
                if counter.differences.len() > MINUTES * READINGS_PER_MINUTE {
                    counter.differences.pop_front();
                }
            }
        }
    }

    /// Returns all charts.
    pub(super) fn charts(&self) -> Vec<Chart> {
        let chart = |(position, (title, metric, _))| {
            let counters = self.counters.range((position, String::new())..(position + 1, String::new()));
            Chart { title, metric, rows: counters.map(|((_, label), counter)| counter.row(label)).collect() }
        };
        CHARTS.into_iter().enumerate().map(chart).collect()
    }

    /// Returns how many requests got this answer in the last five minutes.
    pub(super) fn recent_answers(&self, answer: &str) -> u64 {
        let counter = self.counters.get(&(BY_ANSWER, answer.to_owned()));
        counter.map_or(0, |counter| counter.differences.iter().rev().take(5 * READINGS_PER_MINUTE).sum())
    }
}

impl Counter {
    fn row(&self, label: &str) -> Row {
        let mut per_minute = vec![0; MINUTES];
        for (age, difference) in self.differences.iter().rev().enumerate() {
            per_minute[MINUTES - 1 - age / READINGS_PER_MINUTE] += difference;
        }
        Row { label: label.to_owned(), last_hour: self.differences.iter().sum(), per_minute }
    }
}

/// The values of a metric in the text format of Prometheus, summed by the values of one label.
pub(super) fn by_label(metrics: &str, metric: &str, label: &str) -> BTreeMap<String, u64> {
    let start = format!("{label}=\"");
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let series = line.rsplit_once(' ').and_then(|(series, value)| Some((series.strip_prefix(metric)?, value)));
        let Some((labels, value)) = series else { continue };
        let own =
            labels.strip_prefix('{').and_then(|labels| labels.split(',').find_map(|own| own.strip_prefix(&start)));
        if let (Some((own, _)), Ok(value)) = (own.and_then(|own| own.split_once('"')), value.parse::<u64>()) {
            *sums.entry(own.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(extraction: u64, unproven: u64) -> String {
        format!(
            "# TYPE truenroll_backend_handled counter\n\
             truenroll_backend_handled_total{{feature=\"extraction\",stage=\"completed\",outcome=\"result\"}} {extraction}\n\
             truenroll_backend_handled_total{{feature=\"extraction\",stage=\"failed\",outcome=\"none\"}} 1\n\
             truenroll_backend_ingest_total{{answer=\"unproven\"}} {unproven}\n# EOF\n"
        )
    }

    #[test]
    fn values_are_summed_by_a_label() {
        let sums = |label| by_label(&reading(4, 2), "truenroll_backend_handled_total", label).into_iter().collect();
        let named =
            |sums: &[(&str, u64)]| sums.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect::<Vec<_>>();
        for (label, expected) in [
            ("feature", named(&[("extraction", 5)])),
            ("outcome", named(&[("none", 1), ("result", 4)])),
            ("eature", named(&[])),
            ("answer", named(&[])),
        ] {
            let found: Vec<_> = sums(label);
            assert_eq!(found, expected, "{label}");
        }
    }

    #[test]
    fn an_hour_is_kept_in_minutes() {
        let mut rates = Rates::new();
        let readings = MINUTES * READINGS_PER_MINUTE;
        // In the first minute of the hour 6 events, and 12 in the last; before that, one.
        rates.add(&reading(0, 0));
        for number in 1..=readings as u64 {
            let late = number.saturating_sub(readings as u64 - 6);
            rates.add(&reading(number.min(6) + 2 * late, number));
        }
        let charts = rates.charts();
        let extraction = charts[BY_FEATURE].rows.iter().find(|row| row.label == "extraction").unwrap();
        assert_eq!((extraction.last_hour, extraction.per_minute.len()), (18, MINUTES));
        assert_eq!((extraction.per_minute[0], extraction.per_minute[1], extraction.per_minute[59]), (6, 0, 12));
        assert_eq!(charts[BY_FEATURE].rows.len(), 4, "a feature without events is shown, too");
        assert_eq!(rates.recent_answers("unproven"), 30, "in five minutes");
        assert_eq!(rates.recent_answers("unavailable"), 0);
    }

    #[test]
    fn a_chart_shows_only_its_own_rows() {
        let mut rates = Rates::new();
        rates.add(&reading(3, 2));
        let labels =
            |position: usize| rates.charts()[position].rows.iter().map(|row| row.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(1), ["none", "result"]);
        assert_eq!(labels(BY_ANSWER), ["unproven"]);
        assert!(labels(3).is_empty());
    }
}
