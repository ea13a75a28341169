//! The options that select events. They are the same for all commands.

use std::time::SystemTime;

use clap::Args;
use envelope::{CaseId, Feature};

use super::parse;
use crate::{
    events::{self, State},
    time::parse_rfc3339,
};

/// Which events to select. Without options, all of them.
#[derive(Debug, Clone, Args)]
pub(super) struct Filter {
    /// Only events of this feature: classification, extraction, forensics or translation.
    #[arg(long, value_parser = parse::feature)]
    feature: Option<Feature>,
    /// Only events of this case.
    #[arg(long, value_parser = parse::case)]
    case: Option<CaseId<'static>>,
    /// Only events whose last failed attempt had this error code, such as `api_timeout`.
    #[arg(long)]
    code: Option<String>,
    /// Only the event with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only events that have been in their state since this time, or a later one (RFC 3339).
    #[arg(long, value_parser = parse_rfc3339)]
    since: Option<SystemTime>,
    /// Only events that have been in their state since before this time (RFC 3339).
    #[arg(long, value_parser = parse_rfc3339)]
    until: Option<SystemTime>,
}

impl Filter {
    /// Returns the filter for events in a state, or in any.
    pub(super) fn with(&self, state: Option<State>) -> events::Filter {
        let Self { feature, case, code, key, since, until } = self.clone();
        events::Filter { feature, case, key, state, code, since, until }
    }
}
