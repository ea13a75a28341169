//! `backend forget`.

use std::io::{Write, stderr, stdout};

use clap::Args;
use envelope::CaseId;
use serde_json::json;

use super::{
    NotFound,
    output::{Output, json},
};
use crate::{
    config::Config,
    events::{Forgotten, PendingEvents, forget},
    inbox::{Erased, Inbox},
    partner_api::PartnerApi,
    units::count,
};

/// What to erase.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// The case to erase.
    #[arg(long)]
    case: CaseId<'static>,
    /// Also erase events that are in the inbox. They are never handled, except by an attempt that is
    /// in progress or next.
    #[arg(long)]
    pending: bool,
    #[command(flatten)]
    output: Output,
}

/// Erases what is stored about a case, and prints what was erased.
pub(super) async fn run(config: &Config, options: &Options) -> anyhow::Result<()> {
    let Options { case, pending, output } = options;
    let inbox = Inbox::connect_command(config).await?;
    let pending = if *pending { PendingEvents::Erased } else { PendingEvents::Kept };
    let forgotten = forget(&inbox, case, pending).await?;
    if forgotten == (Forgotten { erased: Erased::default(), kept_pending: 0 }) {
        return Err(NotFound(format!("nothing is stored about the case {case}")).into());
    }
    if output.is_table() {
        writeln!(stdout(), "{}", summary(case, &forgotten))?;
    } else {
        json(&json!({ "case": case.as_str(), "erased": forgotten.erased, "keptPending": forgotten.kept_pending }))?;
    }
    if forgotten.kept_pending == 0 && PartnerApi::new(&config.partner_api)?.case(case).await.is_ok() {
        writeln!(
            stderr(),
            "TruEnroll still has the case, so the reconciler will backfill the events of its finished stages: delete the \
             case there, and erase it here again"
        )?;
    }
    Ok(())
}

fn summary(case: &CaseId<'_>, Forgotten { erased, kept_pending }: &Forgotten) -> String {
    let Erased { records, dead_letters, quarantined, pending, keys } = *erased;
    let mut summary = format!(
        "erased of the case {case}: {}, {}, {} in quarantine, {}, {}",
        count(records, "record") + " of the history",
        count(dead_letters, "dead letter"),
        count(quarantined, "event"),
        count(pending, "pending event"),
        count(keys, "seen key"),
    );
    if *kept_pending > 0 {
        let events = count(*kept_pending, "pending event");
        summary += &format!("; kept {events}, with all that is stored about them: `--pending` erases them too");
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_erased_and_what_was_kept() {
        let case = CaseId::new("c1").unwrap();
        let erased = Erased { records: 3, dead_letters: 1, quarantined: 0, pending: 2, keys: 4 };
        let all = "erased of the case c1: 3 records of the history, 1 dead letter, 0 events in quarantine, \
                   2 pending events, 4 seen keys";
        assert_eq!(summary(&case, &Forgotten { erased, kept_pending: 0 }), all);
        let kept = "; kept 1 pending event, with all that is stored about them: `--pending` erases them too";
        assert!(summary(&case, &Forgotten { erased, kept_pending: 1 }).ends_with(kept));
    }
}
