//! A stack that is watched, and the order of the faults.

use std::{
    fs,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, PROOF, SINK_SECRET},
    simulator::{Simulator, sender},
    stack::{Options, Stack},
    tools::{self, say},
};
use reqwest::{Certificate, Client};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    certificate::Authority,
    prometheus::{Prometheus, State},
};

pub(crate) const AT: &str = "2025-06-22T10:30:00Z";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// How long an alert may take to fire or to resolve. The longest wait is that for a range of an hour.
const PATIENCE: Duration = Duration::from_secs(200);
/// Longer than most alerts wait before they fire.
const QUIET: Duration = Duration::from_secs(12);
/// The pause between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// How long the backend may take to read its settings again.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// The name of the file with the proof.
const PROOF_FILE: &str = "proof";

/// A stack with TLS, and a Prometheus that watches it.
pub(crate) struct Trial {
    pub(crate) prometheus: Prometheus,
    client: Client,
    webhook: String,
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
    pub(crate) simulator: Simulator,
    pub(crate) stack: Stack,
}

impl Trial {
    /// Starts everything, with a certificate that is valid for a long time.
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        authority.install(folder.path(), 90 * DAY)?;
        let tls = fs::read_to_string(tools::workspace().join("envoy/tls.yaml"))?;
        let tls_file = folder.path().join("tls.yaml");
        fs::write(&tls_file, tls.replace("/etc/edge/tls", &folder.path().display().to_string()))?;
        let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
        let options = Options {
            enable: vec!["tls"],
            bootstrap: vec![
                ("tls_file", tls_file.display().to_string()),
                ("connections_per_second", "100".to_owned()),
                ("connection_burst", "300".to_owned()),
            ],
            policy: json!({ "unknown_events": "quarantine" }),
            ..Options::new(simulator.url())
        };
        let proof_file = folder.path().join(PROOF_FILE);
        fs::write(&proof_file, PROOF)?;
        let options = options
            .backend("ingest.proof_file", proof_file.display())
            .backend("partner_api.breaker_failures", 5)
            .backend("partner_api.breaker_open_ms", 1_000)
            .backend("worker.backoff_base_ms", 1_000)
            .backend("worker.backoff_cap_ms", 4_000)
            .backend("reconciler.interval_s", 1)
            // Longer than it takes to send an event whose stage has finished.
            .backend("reconciler.grace_s", 5)
            // On a busy machine, the usual second is too short to renew each lease in time.
            .backend("worker.lease_ms", 5_000)
            // A backend without Redis still answers Prometheus within a second.
            .backend("ingest.store_timeout_ms", 400);
        let stack = Stack::start(options)?;
        let certificate = Certificate::from_pem(authority.pem().as_bytes())?;
        // Installs the provider of cryptography.
        let plain = sender::client();
        let client = Client::builder().no_proxy().tls_certs_only([certificate]).build()?;
        let webhook = stack.webhook().replace("http://127.0.0.1", "https://localhost");
        let prometheus = Prometheus::start(&stack, plain)?;
        Ok(Self { prometheus, client, webhook, authority, folder, simulator, stack })
    }

    /// Makes the faults. Those that do not disturb each other happen at once.
    pub(crate) async fn run(mut self) -> Result<()> {
        self.stack.backend_command(&["reconcile"]).context("the first round, which backfills nothing")?;
        self.send("smooth").await?;
        self.prometheus.fires_nothing_for(QUIET).await.context("nothing is wrong")?;
        self.too_many_connections().await?;
        let one_after_the_other = async {
            self.dead_letter().await?;
            self.sink_down().await?;
            self.partner_api_down().await
        };
        tokio::try_join!(
            self.event_missed(),
            self.requests_rejected(),
            self.certificate(),
            self.event_unknown(),
            self.api_key_rejected(),
            self.connections_closed(),
            one_after_the_other,
        )?;
        // Commands of the backend read the same settings, so these faults would disturb others.
        self.settings_rejected().await?;
        self.proof_unknown().await?;
        let firing = self.prometheus.firing().await?;
        ensure!(firing.is_empty(), "alerts fire although every fault has ended: {firing:?}");
        self.redis_down().await?;
        self.backend_down().await
    }

    pub(crate) async fn fires_and_resolves(
        &self,
        fault: &str,
        alerts: &[&str],
        end: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        fires_and_resolves(&self.prometheus, fault, alerts, end).await
    }

    /// Has the backend read its settings again, with another proof, and waits until it has.
    pub(crate) async fn reload(&self, proof: &str) -> Result<()> {
        let reloads = async || {
            let metrics = self.stack.backend_metrics().await?;
            anyhow::Ok(metrics.sum("truenroll_backend_config_reloads_total", &[]))
        };
        let before = reloads().await?;
        fs::write(self.folder.path().join(PROOF_FILE), proof)?;
        self.stack.backend.signal("HUP")?;
        let read = async {
            while reloads().await? == before {
                sleep(POLL).await;
            }
            Ok(())
        };
        timeout(READS_WITHIN, read).await.context("the backend does not read its settings again")?
    }

    /// Sends the event of a finished stage, which must be accepted.
    pub(crate) async fn send(&self, case: &str) -> Result<()> {
        self.simulator.world.upload(case, Some("applicant-1"), &[Feature::Extraction]);
        let event = self.simulator.world.finish(case, Feature::Extraction, Stage::Completed, AT).context("no event")?;
        let status = self.post(event.body).await?;
        ensure!(status == StatusCode::ACCEPTED, "{case}: answered {status}");
        Ok(())
    }

    pub(crate) async fn post(&self, body: String) -> Result<StatusCode> {
        let request = self.client.post(&self.webhook).header("content-type", "application/json").body(body);
        Ok(request.send().await?.status())
    }
}

/// Waits until the alerts of a fault fire, ends it, and waits until they have resolved.
pub(crate) async fn fires_and_resolves(
    prometheus: &Prometheus,
    fault: &str,
    alerts: &[&str],
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let begin = Instant::now();
    prometheus.wait(alerts, State::Firing, PATIENCE).await.context(fault.to_owned())?;
    let fired = begin.elapsed().as_secs_f64();
    end.await.context(fault.to_owned())?;
    let begin = Instant::now();
    prometheus.wait(alerts, State::Resolved, PATIENCE).await.context(fault.to_owned())?;
    let resolved = begin.elapsed().as_secs_f64();
    say(&format!("{fault}: {} fired after {fired:.0} s, and resolved after {resolved:.0} s", alerts.join(", ")));
    Ok(())
}
