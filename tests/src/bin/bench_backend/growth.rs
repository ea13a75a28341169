//! Measurements with more backends, more partitions, and a long backlog.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use harness::{
    load::{Load, Slice},
    tools::say,
};

use crate::{
    Arguments, micros, per_second,
    programs::{self, Keeping, Programs, Setup},
};

/// Writes the table of backends and partitions.
pub(crate) async fn backends_and_partitions(arguments: &Arguments, text: &mut String) -> Result<()> {
    let keeping = Keeping::Fsync;
    writeln!(
        text,
        "## More backends, more partitions ({})\n\n| backends | partitions | stored/s | CPU of the backends | CPU of \
         Redis | handled/s |\n|---|---|---|---|---|---|",
        keeping.short_name()
    )?;
    for (backends, partitions) in [(1, 1), (1, 4), (1, 16), (1, 64), (3, 16), (3, 64)] {
        say(&format!("{backends} backends, {partitions} partitions"));
        let programs = Programs::start(Setup { backends, partitions, ..Setup::usual(keeping) }).await?;
        let counter = Arc::new(AtomicU64::new(0));
        store(arguments, &programs, &counter, 1_000).await?;
        let stored = store(arguments, &programs, &counter, arguments.backlog).await?;
        let drained = drain(&programs).await?;
        writeln!(
            text,
            "| {backends} | {partitions} | {:.0} | {} | {} | {:.0} |",
            stored.rate,
            micros(stored.backends),
            micros(stored.redis),
            drained.rate
        )?;
    }
    writeln!(text)?;
    Ok(())
}

/// Writes the table of how the cost per event grows with the backlog, and how fast the backlog is
/// handled.
pub(crate) async fn backlog(arguments: &Arguments, text: &mut String) -> Result<()> {
    let programs = Programs::start(Setup::usual(Keeping::Memory)).await?;
    let counter = Arc::new(AtomicU64::new(0));
    writeln!(
        text,
        "## A long backlog ({})\n\n| events in the backlog | stored/s | CPU of the backend | CPU of Redis |\n|---|---|---|---|",
        Keeping::Memory.short_name()
    )?;
    let mut all = 0;
    for waiting in [10_000, 100_000, arguments.longest] {
        say(&format!("a backlog of {waiting}"));
        // Only the last events are measured, about one second.
        let sample = 40_000.min(waiting / 2);
        all += store(arguments, &programs, &counter, waiting.saturating_sub(all + sample)).await?.events;
        let stored = store(arguments, &programs, &counter, sample).await?;
        all += stored.events;
        writeln!(text, "| {all} | {:.0} | {} | {} |", stored.rate, micros(stored.backends), micros(stored.redis))?;
    }
    let drained = drain(&programs).await?;
    writeln!(text, "\nThe whole backlog is handled at {:.0} events per second.", drained.rate)?;
    Ok(())
}

/// The measurement of storing events.
pub(crate) struct Stored {
    pub(crate) events: u64,
    rate: f64,
    pub(crate) backends: Duration,
    pub(crate) redis: Duration,
}

/// Stores at least `events` events while all features are paused.
pub(crate) async fn store(
    arguments: &Arguments,
    programs: &Programs,
    counter: &Arc<AtomicU64>,
    events: u64,
) -> Result<Stored> {
    let until = Instant::now() + Duration::from_secs(300);
    let before = programs.cpu_times()?;
    let mut all = Slice::default();
    while all.requests < events {
        let load = Load {
            ports: programs.ports(),
            connections: arguments.connections,
            rate: None,
            status: 202,
            duration: Duration::from_millis(200),
        };
        let slice = load.run(counter, programs::request).await?;
        all.requests += slice.requests;
        all.elapsed += slice.elapsed;
        ensure!(Instant::now() < until, "storing the backlog takes longer than 300 s");
    }
    let after = programs.cpu_times()?;
    let each = |spent: Duration| spent.div_f64(all.requests.max(1) as f64);
    Ok(Stored {
        events: all.requests,
        rate: if all.requests > 0 { per_second(&all) } else { 0.0 },
        backends: each(after.0 - before.0),
        redis: each(after.1 - before.1),
    })
}

/// The measurement of handling a backlog.
pub(crate) struct Drained {
    /// Events per second.
    pub(crate) rate: f64,
    pub(crate) backends: Duration,
    pub(crate) redis: Duration,
}

/// Resumes all features, and measures until the backlog is handled. The time starts when the
/// backends begin, shortly after they are resumed.
pub(crate) async fn drain(programs: &Programs) -> Result<Drained> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let waiting = programs.waiting().await?;
    let before = programs.cpu_times()?;
    programs.resume().await?;
    let mut began = Instant::now();
    let mut left = waiting;
    while left > 0 {
        ensure!(Instant::now() < deadline, "handling the backlog takes longer than 300 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = Instant::now();
        left = programs.waiting().await?;
        if left == waiting {
            began = now;
        }
    }
    let elapsed = began.elapsed();
    let after = programs.cpu_times()?;
    programs.pause().await?;
    let each = |spent: Duration| spent.div_f64(waiting.max(1) as f64);
    Ok(Drained {
        rate: waiting as f64 / elapsed.as_secs_f64(),
        backends: each(after.0 - before.0),
        redis: each(after.1 - before.1),
    })
}
