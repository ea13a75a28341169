//! `backend reconcile`.

use std::{
    io::{Write, stdout},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    config::Config,
    inbox::Inbox,
    partner_api::PartnerApi,
    reconciler::{Reconciler, Round, STORE_LOST},
    telemetry::Metrics,
    units::count,
};

/// Runs one round of the reconciler and prints what it did.
pub(super) async fn run(config: &Config, since: Option<SystemTime>) -> anyhow::Result<()> {
    let inbox = Inbox::connect_command(config).await?;
    let api = PartnerApi::new(&config.partner_api)?;
    let metrics = Arc::new(Metrics::default());
    let round = Reconciler::new(inbox, api, &config.reconciler, metrics).round(since).await?;
    print(round)
}

fn print(round: Round) -> anyhow::Result<()> {
    let Round { cases, backfilled, within_grace, assumed_received, uploads_without_time, skipped_cases } = round;
    let mut out = stdout();
    writeln!(
        out,
        "compared {}: {} backfilled, {within_grace} within the grace period, {assumed_received} assumed received",
        count(cases, "case"),
        count(backfilled, "event"),
    )?;
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
