//! What becomes of it with more backends, more partitions, and more events.

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

/// A table of backends and partitions.
pub(crate) async fn backends_and_partitions(arguments: &Arguments, text: &mut String) -> Result<()> {
    let keeping = Keeping::Fsync;
    writeln!(
        text,
        "## More backends, more partitions ({})\n\n| backends | partitions | stored/s | CPU of the backends | CPU of \
         Redis | worked off/s |\n|---|---|---|---|---|---|",
        keeping.short_name()
    )?;
    for (backends, partitions) in [(1, 1), (1, 4), (1, 16), (1, 64), (3, 16), (3, 64)] {
        say(&format!("{backends} backends, {partitions} partitions"));
        let programs = Programs::start(Setup { keeping, backends, partitions }).await?;
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

/// How the cost of an event grows with how many are stored; and how long they take to be worked off.
pub(crate) async fn backlog(arguments: &Arguments, text: &mut String) -> Result<()> {
    let programs = Programs::start(Setup { keeping: Keeping::Memory, backends: 1, partitions: 16 }).await?;
    let counter = Arc::new(AtomicU64::new(0));
    writeln!(
        text,
        "## A long backlog ({})\n\n| events that wait | stored/s | CPU of the backend | CPU of Redis |\n|---|---|---|---|",
        Keeping::Memory.short_name()
    )?;
    let mut all = 0;
    for waiting in [10_000, 100_000, arguments.longest] {
        say(&format!("a backlog of {waiting}"));
        // The last second or so before there are so many.
        let sample = 40_000.min(waiting / 2);
        all += store(arguments, &programs, &counter, waiting.saturating_sub(all + sample)).await?.events;
        let stored = store(arguments, &programs, &counter, sample).await?;
        all += stored.events;
        writeln!(text, "| {all} | {:.0} | {} | {} |", stored.rate, micros(stored.backends), micros(stored.redis))?;
    }
    let drained = drain(&programs).await?;
    writeln!(text, "\nAll of them are worked off at {:.0} a second.", drained.rate)?;
    Ok(())
}

/// What storing came to.
struct Stored {
    events: u64,
    rate: f64,
    backends: Duration,
    redis: Duration,
}

/// Stores at least so many events while nothing is worked on.
async fn store(arguments: &Arguments, programs: &Programs, counter: &Arc<AtomicU64>, events: u64) -> Result<Stored> {
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
        ensure!(Instant::now() < until, "the backlog takes too long to store");
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

/// What working off came to.
pub(crate) struct Drained {
    /// Events each second.
    pub(crate) rate: f64,
    pub(crate) backends: Duration,
    pub(crate) redis: Duration,
}

/// Lets what waits be worked off. Counts from when it begins, which is when the backends have heard that they may.
pub(crate) async fn drain(programs: &Programs) -> Result<Drained> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let (waiting, before) = (programs.waiting().await?, programs.cpu_times()?);
    programs.resume().await?;
    let (mut began, mut left) = (Instant::now(), waiting);
    while left > 0 {
        ensure!(Instant::now() < deadline, "the backlog takes too long to work off");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = Instant::now();
        left = programs.waiting().await?;
        if left == waiting {
            began = now;
        }
    }
    let (elapsed, after) = (began.elapsed(), programs.cpu_times()?);
    programs.pause().await?;
    let each = |spent: Duration| spent.div_f64(waiting.max(1) as f64);
    Ok(Drained {
        rate: waiting as f64 / elapsed.as_secs_f64(),
        backends: each(after.0 - before.0),
        redis: each(after.1 - before.1),
    })
}
