//! Measures what the history costs Redis: CPU time from arrival to completion, and memory.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, Result};
use harness::tools::say;

use crate::{
    Arguments, growth, median, micros,
    programs::{Keeping, Programs, Setup},
};

/// One round of one setup.
struct Round {
    /// CPU time of Redis per event while events are stored.
    storing: Duration,
    /// CPU time of Redis per event from arrival to completion.
    all: Duration,
    /// Bytes of memory per completed event.
    memory: f64,
}

/// Writes the table of a backend with a history and one without.
pub(crate) async fn compare(arguments: &Arguments, text: &mut String) -> Result<()> {
    let events = arguments.backlog / 2;
    writeln!(
        text,
        "## The history\n\nEach round stores {events} events of as many cases, and then handles them. CPU times are those of \
         Redis per event.\n\n| durability | storing, without and with the history | from arrival to completion | ratio | \
         memory of a completed event | more |\n|---|---|---|---|---|---|"
    )?;
    for keeping in Keeping::ALL {
        let mut rounds = <[Vec<Round>; 2]>::default();
        for round in 0..=arguments.rounds {
            say(&format!("the history, {}: round {round} of {}", keeping.short_name(), arguments.rounds));
            for place in 0..2 {
                let has_history = (place + round) % 2 == 1;
                let setup = Setup { has_history, ..Setup::usual(keeping) };
                let measured = measure(arguments, setup, events).await?;
                // The first round warms up and is discarded.
                if round > 0 {
                    rounds[usize::from(has_history)].push(measured);
                }
            }
        }
        let of = |which: usize, value: fn(&Round) -> f64| median(rounds[which].iter().map(value));
        let storing = |which| micros(Duration::from_secs_f64(of(which, |round| round.storing.as_secs_f64())));
        let all = |which| of(which, |round| round.all.as_secs_f64());
        let memory = |which| of(which, |round| round.memory);
        writeln!(
            text,
            "| {} | {} and {} | {} and {} | {:.2} | {:.0} and {:.0} bytes | {:.0} bytes |",
            keeping.short_name(),
            storing(0),
            storing(1),
            micros(Duration::from_secs_f64(all(0))),
            micros(Duration::from_secs_f64(all(1))),
            all(1) / all(0),
            memory(0),
            memory(1),
            memory(1) - memory(0)
        )?;
    }
    writeln!(text)?;
    Ok(())
}

async fn measure(arguments: &Arguments, setup: Setup, events: u64) -> Result<Round> {
    let programs = Programs::start(setup).await?;
    let counter = Arc::new(AtomicU64::new(0));
    growth::store(arguments, &programs, &counter, 1_000).await?;
    growth::drain(&programs).await?;
    programs.empty_redis().await?;
    let empty = programs.memory().await?;
    let stored = growth::store(arguments, &programs, &counter, events).await?;
    let drained = growth::drain(&programs).await?;
    let memory = programs.memory().await?.checked_sub(empty).context("the memory has shrunk")?;
    Ok(Round { storing: stored.redis, all: stored.redis + drained.redis, memory: memory as f64 / stored.events as f64 })
}
