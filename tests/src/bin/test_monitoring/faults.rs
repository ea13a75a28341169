//! The faults, and what must fire.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{backend_settings::PROOF, simulator::world::Fault};
use tokio::time::{interval, sleep, timeout};

use crate::trial::{AT, DAY, POLL, Trial, fires_and_resolves};

/// How many events are sent in a second while the application is down.
const RATE: u32 = 8;
/// The maximum time for a connection to open or an attempt to begin.
const SOON: Duration = Duration::from_secs(30);

impl Trial {
    /// An event that TruEnroll never sends.
    pub(crate) async fn event_missed(&self) -> Result<()> {
        self.simulator.world.upload("missed", Some("applicant-1"), &[Feature::Extraction]);
        self.simulator.world.finish("missed", Feature::Extraction, Stage::Completed, AT).context("no such stage")?;
        self.fires_and_resolves("a missed event", &["EventsBackfilled"], async { Ok(()) }).await
    }

    /// Requests that are no valid events.
    pub(crate) async fn requests_rejected(&self) -> Result<()> {
        for _ in 0..20 {
            ensure!(self.post("{}".to_owned()).await? == StatusCode::UNPROCESSABLE_ENTITY, "the filter accepts {{}}");
            // Prometheus needs two readings to see an increase.
            sleep(Duration::from_millis(200)).await;
        }
        self.fires_and_resolves("rejected requests", &["FilterRejectsMore"], async { Ok(()) }).await
    }

    pub(crate) async fn certificate(&self) -> Result<()> {
        self.authority.install(self.folder.path(), 5 * DAY)?;
        let renew = async { self.authority.install(self.folder.path(), 90 * DAY) };
        self.fires_and_resolves("a certificate that expires in 5 days", &["CertificateExpires"], renew).await
    }

    /// The application never wants an outcome, until it is replayed.
    pub(crate) async fn dead_letter(&self) -> Result<()> {
        self.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
        self.send("gone").await?;
        let replay = async { self.stack.backend_command(&["replay"]).map(drop) };
        self.fires_and_resolves("a dead letter", &["DeadLetters"], replay).await
    }

    /// The application is down while events arrive.
    pub(crate) async fn sink_down(&self) -> Result<()> {
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

    pub(crate) async fn redis_down(&mut self) -> Result<()> {
        self.stack.redis.as_mut().context("the stack has no Redis")?.process.kill()?;
        // The case does not exist, so that nobody backfills the event.
        let event = self.simulator.world.forge("lost", Feature::Forensics, Stage::Failed, AT).context("no event")?;
        let lost = self.post(event.body).await?;
        ensure!(lost == StatusCode::SERVICE_UNAVAILABLE, "answered {lost} without Redis");
        let alerts = ["RedisDown", "EventsNotStored", "EventsRejectedAsUnavailable"];
        let Self { prometheus, stack, .. } = self;
        fires_and_resolves(prometheus, "Redis is down", &alerts, async { stack.start_redis() }).await
    }

    /// The only backend stops, and waits for an application that is slow. Then it is gone.
    pub(crate) async fn backend_down(&mut self) -> Result<()> {
        self.simulator.application.fail_next([(StatusCode::OK, DAY)]);
        self.send("slow").await?;
        let begins = async {
            while self.simulator.application.busy() == 0 {
                sleep(POLL).await;
            }
        };
        timeout(SOON, begins).await.context("no attempt begins")?;
        self.stack.backend.signal("TERM")?;
        let Self { prometheus, stack, .. } = self;
        let gone = async { Ok(stack.backend.kill()?) };
        fires_and_resolves(prometheus, "a backend that takes long to stop", &["PartitionsWithoutOwner"], gone).await?;
        fires_and_resolves(prometheus, "the backend is down", &["TargetDown"], async { stack.start_backend() }).await
    }

    /// More connections are opened than Envoy accepts, and closed at once.
    pub(crate) async fn too_many_connections(&self) -> Result<()> {
        let edge = self.stack.edge().replace("http://", "");
        tokio::task::spawn_blocking(move || (0..1_000).try_for_each(|_| TcpStream::connect(&edge).map(drop))).await??;
        // Until Envoy accepts connections again.
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// What [`Self::too_many_connections`] has caused.
    pub(crate) async fn connections_closed(&self) -> Result<()> {
        self.fires_and_resolves("too many connections", &["ConnectionsLimited"], async { Ok(()) }).await
    }

    /// An event that this version does not know, until its case is erased.
    pub(crate) async fn event_unknown(&self) -> Result<()> {
        let event = self.simulator.world.forge("unknown", Feature::Extraction, Stage::Completed, AT);
        let body = event.context("no event")?.body.replace("case.extraction", "case.verification");
        let status = self.post(body).await?;
        ensure!(status == StatusCode::ACCEPTED, "an unknown event: answered {status}");
        let forget = async { self.stack.backend_command(&["forget", "--case", "unknown"]).map(drop) };
        self.fires_and_resolves("an unknown event", &["Quarantined"], forget).await
    }

    /// The Partner API rejects the API key for a while.
    pub(crate) async fn api_key_rejected(&self) -> Result<()> {
        self.simulator.world.fail_next([401; 4].map(Fault::status));
        self.send("unauthorized").await?;
        let alerts = ["ApiKeyRejected", "AttemptsNeedAction"];
        self.fires_and_resolves("a rejected API key", &alerts, async { Ok(()) }).await
    }

    /// A setting is changed to something wrong, and corrected.
    pub(crate) async fn settings_rejected(&self) -> Result<()> {
        self.reload("").await?;
        self.fires_and_resolves("wrong settings", &["ReloadRejected"], self.reload(PROOF)).await
    }

    /// The Partner API fails.
    pub(crate) async fn partner_api_down(&self) -> Result<()> {
        self.simulator.world.fail_next([503; 10_000].map(Fault::status));
        self.send("without-api").await?;
        let heal = async {
            self.simulator.world.heal();
            Ok(())
        };
        self.fires_and_resolves("a Partner API that is down", &["PartnerApiFailing"], heal).await
    }

    /// The backend gets another proof than the filter. Envoy repeats the request until that is undone.
    pub(crate) async fn proof_unknown(&self) -> Result<()> {
        self.reload("a-proof-that-the-filter-does-not-have").await?;
        let correct = self.reload(PROOF);
        let watch = self.fires_and_resolves("a wrong proof", &["ProofUnknown"], correct);
        tokio::try_join!(self.send("unproven"), watch).map(drop)
    }
}
