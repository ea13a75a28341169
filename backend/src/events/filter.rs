//! Which events to list.

use std::time::SystemTime;

use clap::Args;
use envelope::{CaseId, Feature};

use super::{Event, State};
use crate::{
    inbox::{Inbox, Source, Span},
    time::parse_rfc3339,
};

/// Which events to list: by default all. The descriptions are also those of the command line's options,
/// which are the same for all commands.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only events of this feature: classification, extraction, forensics or translation.
    #[arg(long)]
    pub feature: Option<Feature>,
    /// Only events of this case.
    #[arg(long)]
    pub case: Option<CaseId<'static>>,
    /// Only events in this state.
    #[arg(skip)]
    pub state: Option<State>,
    /// Only events whose last failed attempt had this error code, such as `api_timeout`.
    #[arg(long)]
    pub code: Option<String>,
    /// Only the event with this key.
    #[arg(long)]
    pub key: Option<String>,
    /// Only events that entered their state at or after this time (RFC 3339).
    #[arg(long, value_parser = parse_rfc3339)]
    pub since: Option<SystemTime>,
    /// Only events that entered their state before this time (RFC 3339).
    #[arg(long, value_parser = parse_rfc3339)]
    pub until: Option<SystemTime>,
}

impl Filter {
    /// Returns whether the filter selects an event. The times are left to [`Self::span`].
    pub fn selects(&self, event: &Event) -> bool {
        self.feature.is_none_or(|feature| event.feature == Some(feature))
            && self.case.as_ref().is_none_or(|case| event.case == case.as_str())
            && self.key.as_ref().is_none_or(|key| event.key == *key)
            && self.state.is_none_or(|state| event.state == state)
            && self.code.as_ref().is_none_or(|code| event.error.as_ref().is_some_and(|error| error.code == *code))
    }

    /// Leaves out events that have been in their state since `moment`, or a later one.
    #[must_use]
    pub fn before(self, moment: SystemTime) -> Self {
        Self { until: Some(self.until.map_or(moment, |until| until.min(moment))), ..self }
    }

    /// Returns the partitions that can hold such events.
    pub fn partitions(&self, inbox: &Inbox) -> Vec<u32> {
        let case_of = |key: &String| CaseId::new(super::parts(key)?.1.to_owned());
        match self.case.clone().or_else(|| self.key.as_ref().and_then(case_of)) {
            Some(case) => vec![inbox.partition_of(&case)],
            None => (0..inbox.partitions()).collect(),
        }
    }

    /// Returns the streams that can hold such events.
    pub fn sources(&self) -> impl Iterator<Item = Source> + Clone {
        Source::ALL.into_iter().filter(|source| match source {
            Source::Inbox(feature) => {
                matches!(self.state, None | Some(State::Pending | State::Retrying))
                    && self.feature.is_none_or(|wanted| wanted == *feature)
            }
            Source::Dead => matches!(self.state, None | Some(State::Dead)),
            // Only a newer version of the backend knows the feature of an event in quarantine.
            Source::Quarantine => match self.state {
                None => self.feature.is_none(),
                Some(state) => state == State::Quarantined,
            },
            Source::History => matches!(self.state, None | Some(State::Completed)),
        })
    }

    /// Returns the part of each stream that has entries of these times.
    pub fn span(&self) -> Span {
        Span::between(self.since, self.until)
    }
}
