//! Measures what traces cost the backend: CPU time per event that is stored, of all threads, including
//! the one that exports spans.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Result;
use harness::tools::say;

use crate::{
    Arguments, growth, median, median_of, micros,
    programs::{Keeping, Programs, Setup},
};

const SAMPLING: [(Option<f64>, &str); 4] =
    [(None, "no collector"), (Some(0.0), "0"), (Some(0.01), "0.01 (the default)"), (Some(1.0), "1")];
/// The least number of events that are stored in each measurement.
const EVENTS: u64 = 20_000;

/// Writes the table of backends that trace different shares of the events.
pub(crate) async fn compare(arguments: &Arguments, text: &mut String) -> Result<()> {
    let mut all = Vec::new();
    for (sampling, _) in SAMPLING {
        all.push(Programs::start(Setup { sampling, ..Setup::usual(Keeping::Memory) }).await?);
    }
    let counter = Arc::new(AtomicU64::new(0));
    let mut times = <[Vec<Duration>; SAMPLING.len()]>::default();
    // The first round warms up and is discarded.
    for round in 0..=arguments.rounds {
        say(&format!("traces: round {round} of {}", arguments.rounds));
        for place in 0..all.len() {
            let which = (place + round) % all.len();
            all[which].empty_redis().await?;
            let stored = growth::store(arguments, &all[which], &counter, EVENTS).await?;
            if round > 0 {
                times[which].push(stored.backends);
            }
        }
    }
    writeln!(
        text,
        "## Traces (in memory)\n\nThe CPU time of the backend per event that is stored, with a collector that answers at \
         once. The ratios are medians over the\nrounds of the ratio to a backend without a collector. With \
         `telemetry.sampling = 1`, more spans are recorded than are exported;\nthe rest is dropped.\n\n| \
         `telemetry.sampling` | CPU of the backend | ratio |\n|---|---|---|"
    )?;
    for ((_, name), own) in SAMPLING.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, without)| own.as_secs_f64() / without.as_secs_f64());
        writeln!(text, "| {name} | {} | {:.2} |", micros(median_of(own, |time| *time)), median(ratios))?;
    }
    writeln!(text)?;
    Ok(())
}
