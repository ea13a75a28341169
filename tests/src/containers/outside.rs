//! The outside world of a project: TruEnroll and the partner's application, on the host.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use envelope::Feature;
use redis::AsyncCommands;
use simulator::{
    Simulator,
    sender::Sender,
    steady::{Report, Steady},
};
use tokio::time::{Instant, sleep};

use super::{docker::Docker, gateway, project::Project};
use crate::{
    backend_settings::{API_KEY, SINK_SECRET},
    keys,
    outcomes::Contract,
};

/// The events per second of the steady sender.
pub const RATE: u32 = 50;
/// A token like those that `openssl rand -hex 32` prints.
const TOKEN: &str = "5a5c3e1b8f0d47c6a2915f6be0c4d8735a5c3e1b8f0d47c6a2915f6be0c4d873";
/// How long the backends may take to handle everything that was accepted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long events are sent before and after an operation.
const AROUND: Duration = Duration::from_secs(2);

/// The secrets that a project shares with the outside world.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The token in the webhook's path.
    pub token: String,
    /// The secret that signs outcomes.
    pub sink: String,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { token: TOKEN.to_owned(), sink: SINK_SECRET.to_owned() }
    }
}

/// The simulator, which the containers reach, and a sender that never retries.
pub struct Outside {
    /// The simulator.
    pub simulator: Simulator,
    /// The sender.
    pub sender: Arc<Sender>,
    /// The URL that it sends to.
    pub webhook: String,
    /// The address of the Partner API.
    pub partner_api: SocketAddr,
    /// The address of the application, a different one.
    pub application: SocketAddr,
}

impl Outside {
    /// Starts the simulator on the address by which containers reach the host. Events go to the
    /// project's Envoy, to the path with the token.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(docker: &Docker, project: &Project, secrets: &Secrets) -> Result<Self> {
        let gateway = gateway::of_containers(docker).await?;
        let any_port = format!("{gateway}:0");
        let mut simulator = Simulator::start(&any_port, API_KEY, &secrets.sink)
            .await
            .with_context(|| format!("cannot listen on {gateway}, the host's address for containers"))?;
        Contract::hold(&simulator.application)?;
        let partner_api = simulator.address();
        let application = simulator.also_on(&any_port).await?;
        let webhook = format!("{}/webhooks/truenroll/{}", project.edge(), secrets.token);
        let sender = Arc::new(Sender::new(webhook.clone()));
        Ok(Self { simulator, sender, webhook, partner_api, application })
    }

    /// The settings by which a project uses this world, as lines of `.env`.
    pub fn settings(&self, secrets: &Secrets) -> Vec<(&'static str, String)> {
        vec![
            ("TRUENROLL_BASE_URL", format!("http://{}/partner/v1", self.partner_api)),
            ("TRUENROLL_API_KEY", API_KEY.to_owned()),
            ("SINK_URL", format!("http://{}/outcomes", self.application)),
            ("SINK_SECRET", secrets.sink.clone()),
            ("WEBHOOK_TOKEN", secrets.token.clone()),
        ]
    }

    /// Performs an operation while [`RATE`] events per second arrive, which begin and end two
    /// seconds around it. Returns what the sender noticed. The cases are called after `name`.
    ///
    /// # Errors
    /// If the operation fails.
    pub async fn under_load(&self, name: &str, operation: impl Future<Output = Result<()>>) -> Result<Report> {
        let steady = Steady::start(&self.simulator.world, &self.sender, name, RATE);
        sleep(AROUND).await;
        Box::pin(operation).await?;
        sleep(AROUND).await;
        steady.stop().await
    }

    /// Performs an operation as [`under_load`](Self::under_load) does, and judges it as planned: every
    /// event was accepted, handled and delivered exactly once.
    ///
    /// # Errors
    /// If the operation fails, or an event was rejected, lost or delivered twice.
    pub async fn planned(
        &self,
        project: &Project,
        name: &str,
        operation: impl Future<Output = Result<()>>,
    ) -> Result<String> {
        let (_, repeated) = self.simulator.application.counts();
        let report = self.unplanned(project, name, operation).await?;
        let (_, now) = self.simulator.application.counts();
        ensure!(now == repeated, "{} outcomes were delivered twice, although nothing crashed", now - repeated);
        Ok(report)
    }

    /// Like [`planned`](Self::planned), for an operation after which outcomes may be delivered twice.
    ///
    /// # Errors
    /// If the operation fails, or an event was rejected or lost.
    pub async fn unplanned(
        &self,
        project: &Project,
        name: &str,
        operation: impl Future<Output = Result<()>>,
    ) -> Result<String> {
        let report = self.under_load(name, operation).await?;
        all_accepted(&report)?;
        self.all_delivered(project, &report).await?;
        Ok(described(&report))
    }

    /// Waits until every accepted event was delivered and nothing is left to do.
    ///
    /// # Errors
    /// If that takes too long, or the application complained about a delivery.
    pub async fn all_delivered(&self, project: &Project, report: &Report) -> Result<()> {
        self.all_delivered_within(project, report, PATIENCE).await
    }

    /// Like [`all_delivered`](Self::all_delivered), with another limit.
    ///
    /// # Errors
    /// As [`all_delivered`](Self::all_delivered).
    pub async fn all_delivered_within(&self, project: &Project, report: &Report, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let deliveries = self.simulator.application.deliveries();
            let delivered: HashSet<_> = deliveries.iter().map(|delivery| delivery.key.as_str()).collect();
            let missing: Vec<_> = report.accepted.iter().filter(|key| !delivered.contains(key.as_str())).collect();
            if missing.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                let first = &missing[..missing.len().min(3)];
                bail!("{} of {} accepted events were not delivered: {first:?}", missing.len(), report.accepted.len());
            }
            sleep(Duration::from_millis(100)).await;
        }
        let complaints = self.simulator.application.complaints();
        ensure!(complaints.is_empty(), "the application rejected deliveries: {complaints:?}");
        nothing_waits(project, deadline).await
    }
}

/// Checks that every event was accepted.
///
/// # Errors
/// If one was not.
pub fn all_accepted(report: &Report) -> Result<()> {
    let undeserved = &report.undeserved;
    ensure!(report.sent > 0, "no event was sent");
    ensure!(
        undeserved.is_empty(),
        "{} of {} events were not accepted: {:?}",
        undeserved.len(),
        report.sent,
        &undeserved[..undeserved.len().min(3)]
    );
    Ok(())
}

/// What the sender noticed, in one line.
pub fn described(report: &Report) -> String {
    let (sent, accepted, longest) = (report.sent, report.accepted.len(), report.longest.as_secs_f64());
    format!("{accepted} of {sent} events accepted and delivered, longest wait {longest:.2} s")
}

/// The number of events in the inbox.
///
/// # Errors
/// If Redis does not answer.
pub async fn waiting(project: &Project) -> Result<u64> {
    let redis = redis::Client::open(format!("redis://{}", project.redis().await?))?;
    let mut redis = redis.get_multiplexed_async_connection().await?;
    let mut waiting = 0;
    for keys in keys::of_all_partitions() {
        for feature in Feature::ALL {
            waiting += redis.xlen::<_, u64>(keys.inbox(feature)).await?;
        }
    }
    Ok(waiting)
}

/// Waits until no event is in the inbox, and checks that there is no dead letter.
async fn nothing_waits(project: &Project, deadline: Instant) -> Result<()> {
    loop {
        let left = waiting(project).await?;
        if left == 0 {
            break;
        }
        ensure!(Instant::now() < deadline, "{left} events are left in the inbox");
        sleep(Duration::from_millis(100)).await;
    }
    let dead = project.exec("backend", &["backend", "dead"]).await?;
    ensure!(dead.trim().is_empty(), "events became dead letters: {dead}");
    Ok(())
}
