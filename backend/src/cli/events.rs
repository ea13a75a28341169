//! `backend events`.

use std::io::{Write, stderr};

use clap::Args;

use super::output::Output;
use crate::{
    config::Config,
    events::{Budget, Cursor, Filter, State, list},
    inbox::Inbox,
};

/// Which events to list, and how many.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    #[command(flatten)]
    filter: Filter,
    /// Only events in this state.
    #[arg(long)]
    state: Option<State>,
    /// The most events to list.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Continue an earlier list, which has printed this cursor.
    #[arg(long)]
    cursor: Option<Cursor>,
    #[command(flatten)]
    output: Output,
}

/// Lists events, the one that changed last first. Says on standard error if there are more.
pub(super) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    let Options { filter, state, limit, cursor, mut output } = options;
    let inbox = Inbox::connect_command(config).await?;
    let listing = list(&inbox, &Filter { state, ..filter }, cursor, limit, Budget::UNLIMITED).await?;
    for event in &listing.events {
        output.event(event)?;
    }
    if let Some(cursor) = listing.next {
        writeln!(stderr(), "there are more than {limit} events: raise --limit, or continue with --cursor {cursor}")?;
    }
    warn_without_history(&inbox)
}

/// Says on standard error that completed events are not recorded, if that is so.
pub(super) fn warn_without_history(inbox: &Inbox) -> anyhow::Result<()> {
    if !inbox.has_history() {
        writeln!(stderr(), "completed events are missing: `history.enabled` is false")?;
    }
    Ok(())
}
