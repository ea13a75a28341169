//! `backend reconcile`.

use std::{
    io::{Write, stdout},
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::CaseId;

use super::NotFound;
use crate::{
    config::Config,
    inbox::Inbox,
    partner_api::PartnerApi,
    reconciler::{Reconciler, ReconcilerError, Round, STORE_LOST},
    telemetry::Metrics,
    units::count,
};

/// Runs one round of the reconciler, or compares one case, and prints what was done.
pub(super) async fn run(config: &Config, case: Option<&CaseId<'_>>, since: Option<SystemTime>) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let api = PartnerApi::new(&config.partner_api)?;
    let metrics = Arc::new(Metrics::default());
    let reconciler = Reconciler::new(inbox, api, &config.reconciler, metrics);
    let round = match case {
        Some(case) => match reconciler.one_case(case, since).await {
            Err(ReconcilerError::PartnerApi(error)) if error.is_not_found() => {
                return Err(NotFound(format!("the case {case} does not exist at TruEnroll")).into());
            }
            compared => compared?,
        },
        None => reconciler.round(since).await?,
    };
    print(round, config.reconciler.grace)
}

fn print(round: Round, grace: Duration) -> anyhow::Result<()> {
    let Round { cases, backfilled, within_grace, assumed_received, uploads_without_time, skipped_cases } = round;
    let mut out = stdout();
    writeln!(
        out,
        "compared {}: {} backfilled, {within_grace} within the grace period, {assumed_received} assumed received",
        count(cases, "case"),
        count(backfilled, "event"),
    )?;
    if within_grace > 0 {
        let (events, grace) = (count(within_grace, "missing event"), grace.as_secs());
        writeln!(
            out,
            "noted {events}: a round backfills each of them that is still missing {grace} s after it was first found \
             to be missing (`reconciler.grace_s`)"
        )?;
    }
    if assumed_received > 0 {
        writeln!(out, "{STORE_LOST}")?;
    }
    if uploads_without_time > 0 {
        let uploads = count(uploads_without_time, "upload");
        writeln!(out, "skipped {uploads} for --since: the Partner API gives no updatedAt or createdAt for them")?;
    }
    if skipped_cases > 0 {
        let cases = count(skipped_cases, "case");
        writeln!(out, "skipped {cases}: the Partner API's answer about them is not as documented")?;
    }
    Ok(())
}
