//! A reader of the Prometheus text format.

use std::collections::BTreeMap;

/// The values of all series that a program serves.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Parses what a program serves.
    pub fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The sum over all series of metric `name` that have all of `labels`, each written
    /// `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let matching = self.0.iter().filter(|(series, _)| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        });
        matching.map(|(_, value)| *value as u64).sum()
    }

    /// The values of metric `name`, summed by the values of one label.
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut values = BTreeMap::new();
        for (series, value) in &self.0 {
            let Some((_, labels)) = series.split_once('{').filter(|(own, _)| *own == name) else { continue };
            let start = format!("{label}=\"");
            if let Some(value_of_label) = labels.split(&start).nth(1).and_then(|rest| rest.split('"').next()) {
                *values.entry(value_of_label.to_owned()).or_default() += *value as u64;
            }
        }
        values
    }
}
