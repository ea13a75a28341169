//! Small charts of the last hour, as numbers and as bars.

use serde::Serialize;

/// A group of counters that are shown together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chart {
    /// What is counted, and by which label.
    pub(super) title: &'static str,
    /// The metric that is shown.
    pub(super) metric: &'static str,
    /// One row for each value of the label.
    pub(super) rows: Vec<Row>,
}

/// What one counter counted in the last hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// The value of the label.
    pub(super) label: String,
    /// The sum.
    pub(super) last_hour: u64,
    /// The same by minute, the oldest first.
    pub(super) per_minute: Vec<u64>,
}

/// A bar of a chart, in the units of its picture.
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: u64,
    pub(super) height: u64,
}

/// The height of a picture.
const HEIGHT: u64 = 24;
/// The distance between two bars.
const STEP: usize = 4;

impl Row {
    /// The most that was counted in one minute.
    pub(super) fn peak(&self) -> u64 {
        self.per_minute.iter().copied().max().unwrap_or_default()
    }

    /// The bars of the picture: none for a minute in which nothing was counted.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let peak = self.peak().max(1);
        let numbers = self.per_minute.iter().enumerate().filter(|(_, number)| **number > 0);
        let bars = numbers.map(|(minute, &number)| {
            let height = (number.saturating_mul(HEIGHT) / peak).max(1);
            Bar { x: minute * STEP, y: HEIGHT - height, height }
        });
        bars.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_picture_and_the_lowest_can_be_seen() {
        let row = Row { label: String::new(), last_hour: 0, per_minute: vec![0, 1, 50, 100, u64::MAX] };
        let bars = |row: &Row| row.bars().iter().map(|bar| (bar.x, bar.y, bar.height)).collect::<Vec<_>>();
        assert_eq!(
            bars(&Row { per_minute: vec![0, 1, 50, 100], ..row.clone() }),
            [(4, 23, 1), (8, 12, 12), (12, 0, 24)]
        );
        assert_eq!(bars(&row).len(), 4, "no number is too large");
        assert_eq!(bars(&Row { per_minute: vec![0; 60], ..row }), []);
    }
}
