//! The faults, and what must fire.

use std::{
    fs,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    simulator::{Simulator, sender},
    stack::{Options, Stack},
    tools::{self, say},
};
use reqwest::{Certificate, Client};
use tempfile::TempDir;
use tokio::time::{interval, sleep};

use crate::{
    certificate::Authority,
    prometheus::{Prometheus, State},
};

const AT: &str = "2025-06-22T10:30:00Z";
const DAY: Duration = Duration::from_secs(86_400);
/// How long an alert may take to fire or to resolve. The longest wait is that for a range of an hour.
const PATIENCE: Duration = Duration::from_secs(200);
/// Longer than most alerts wait before they fire.
const QUIET: Duration = Duration::from_secs(12);
/// How many events are sent in a second while the application is down.
const RATE: u32 = 8;

/// A stack with TLS, and a Prometheus that watches it.
pub(crate) struct Trial {
    prometheus: Prometheus,
    client: Client,
    webhook: String,
    authority: Authority,
    certificates: TempDir,
    simulator: Simulator,
    stack: Stack,
}

impl Trial {
    /// Starts everything, with a certificate that is valid for a long time.
    pub(crate) async fn start() -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        let authority = Authority::new()?;
        authority.install(certificates.path(), 90 * DAY)?;
        let tls = fs::read_to_string(tools::workspace().join("envoy/tls.yaml"))?;
        let tls_file = certificates.path().join("tls.yaml");
        fs::write(&tls_file, tls.replace("/etc/edge/tls", &certificates.path().display().to_string()))?;
        let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
        let options = Options {
            enable: vec!["tls"],
            bootstrap: vec![("tls_file", tls_file.display().to_string())],
            ..Options::new(simulator.url())
        };
        let options = options
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
        Ok(Self { prometheus, client, webhook, authority, certificates, simulator, stack })
    }

    /// Makes the faults. Those that do not disturb each other happen at once.
    pub(crate) async fn run(mut self) -> Result<()> {
        self.stack.backend_command(&["reconcile"]).context("the first round, which backfills nothing")?;
        self.send("smooth").await?;
        self.prometheus.fires_nothing_for(QUIET).await.context("nothing is wrong")?;
        let dead_letter_and_sink = async {
            self.dead_letter().await?;
            self.sink_down().await
        };
        tokio::try_join!(self.event_missed(), self.requests_rejected(), self.certificate(), dead_letter_and_sink)?;
        let firing = self.prometheus.firing().await?;
        ensure!(firing.is_empty(), "alerts fire although every fault has ended: {firing:?}");
        self.redis_down().await?;
        self.backend_down().await
    }

    /// An event that TruEnroll never sends.
    async fn event_missed(&self) -> Result<()> {
        self.simulator.world.upload("missed", Some("applicant-1"), &[Feature::Extraction]);
        self.simulator.world.finish("missed", Feature::Extraction, Stage::Completed, AT).context("no such stage")?;
        self.fires_and_resolves("a missed event", &["EventsBackfilled"], async { Ok(()) }).await
    }

    /// Requests that are no valid events.
    async fn requests_rejected(&self) -> Result<()> {
        for _ in 0..20 {
            ensure!(self.post("{}".to_owned()).await? == StatusCode::UNPROCESSABLE_ENTITY, "the filter accepts {{}}");
            // Prometheus needs two readings to see an increase.
            sleep(Duration::from_millis(200)).await;
        }
        self.fires_and_resolves("rejected requests", &["FilterRejectsMore"], async { Ok(()) }).await
    }

    async fn certificate(&self) -> Result<()> {
        self.authority.install(self.certificates.path(), 5 * DAY)?;
        let renew = async { self.authority.install(self.certificates.path(), 90 * DAY) };
        self.fires_and_resolves("a certificate that expires in 5 days", &["CertificateExpires"], renew).await
    }

    /// The application never wants an outcome, until it is replayed.
    async fn dead_letter(&self) -> Result<()> {
        self.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
        self.send("gone").await?;
        let replay = async { self.stack.backend_command(&["replay"]).map(drop) };
        self.fires_and_resolves("a dead letter", &["DeadLetters"], replay).await
    }

    /// The application is down while events arrive.
    async fn sink_down(&self) -> Result<()> {
        let is_down = AtomicBool::new(true);
        let fail = || self.simulator.application.fail_next([(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 10_000]);
        fail();
        let arrive = async {
            let mut ticks = interval(Duration::from_secs(1) / RATE);
            for number in 0.. {
                ticks.tick().await;
                if !is_down.load(Ordering::Relaxed) {
                    break;
                }
                self.send(&format!("backlog-{number}")).await?;
            }
            Ok(())
        };
        let heal = async {
            self.simulator.application.heal();
            is_down.store(false, Ordering::Relaxed);
            Ok(())
        };
        let alerts = ["SinkFailing", "BacklogGrows"];
        let watch = self.fires_and_resolves("an application that is down", &alerts, heal);
        tokio::try_join!(arrive, watch).map(drop)
    }

    async fn redis_down(&mut self) -> Result<()> {
        self.stack.redis.as_mut().context("the stack has no Redis")?.process.kill()?;
        // The case does not exist, so that nobody backfills the event.
        let event = self.simulator.world.forge("lost", Feature::Forensics, Stage::Failed, AT).context("no event")?;
        let lost = self.post(event.body).await?;
        ensure!(lost == StatusCode::SERVICE_UNAVAILABLE, "answered {lost} without Redis");
        let alerts = ["RedisDown", "EventsNotStored", "EventsRejectedAsUnavailable"];
        let Self { prometheus, stack, .. } = self;
        fires_and_resolves(prometheus, "Redis is down", &alerts, async { stack.start_redis() }).await
    }

    async fn backend_down(&mut self) -> Result<()> {
        self.stack.backend.kill()?;
        let Self { prometheus, stack, .. } = self;
        fires_and_resolves(prometheus, "the backend is down", &["TargetDown"], async { stack.start_backend() }).await
    }

    async fn fires_and_resolves(
        &self,
        fault: &str,
        alerts: &[&str],
        end: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        fires_and_resolves(&self.prometheus, fault, alerts, end).await
    }

    /// Sends the event of a finished stage, which must be accepted.
    async fn send(&self, case: &str) -> Result<()> {
        self.simulator.world.upload(case, Some("applicant-1"), &[Feature::Extraction]);
        let event = self.simulator.world.finish(case, Feature::Extraction, Stage::Completed, AT).context("no event")?;
        let status = self.post(event.body).await?;
        ensure!(status == StatusCode::ACCEPTED, "{case}: answered {status}");
        Ok(())
    }

    async fn post(&self, body: String) -> Result<StatusCode> {
        let request = self.client.post(&self.webhook).header("content-type", "application/json").body(body);
        Ok(request.send().await?.status())
    }
}

/// Waits until the alerts of a fault fire, ends it, and waits until they have resolved.
async fn fires_and_resolves(
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
