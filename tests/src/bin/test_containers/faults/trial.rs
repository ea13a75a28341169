//! The load during the faults, and the judgement at the end.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use harness::{
    chaos::{
        Explains, History, Violation, checker,
        traffic::{Lane, Load, Sending, Traffic, one_more_of_each},
    },
    containers::{Production, outside},
};
use tokio::time::sleep;

/// How long a lease lasts by default.
const LEASE: Duration = Duration::from_secs(10);
/// How long events are sent before and after a fault.
const AROUND: Duration = Duration::from_secs(2);
/// How long each delivery takes at most. It makes it likely that a fault hits one.
const PACE: Duration = Duration::from_millis(50);

/// Everything that was sent to one deployment, and the faults that it went through.
pub(super) struct Trial<'a> {
    production: &'a Production,
    history: History,
    sent: Vec<Lane>,
    /// Where the lanes of the last fault begin.
    last: usize,
    rng: Rng,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How long the backends may take to handle all events after a fault.
    pub patience: Duration,
}

/// What was noticed of a fault.
pub(super) struct Noticed {
    accepted: usize,
    rejected: Vec<String>,
    /// The longest time that the sender waited for an answer.
    longest: Duration,
    /// When everything was handled, after the end of the fault; `None` if it took too long.
    handled_after: Option<Duration>,
    delivered_again: u64,
    /// What the fault itself noticed.
    detail: String,
}

impl<'a> Trial<'a> {
    pub(super) fn new(production: &'a Production) -> Self {
        production.outside.simulator.application.set_pace(PACE);
        Self {
            production,
            history: History::new(LEASE),
            sent: Vec::new(),
            last: 0,
            rng: Rng::with_seed(1),
            lease: LEASE,
            patience: Duration::from_secs(60),
        }
    }

    /// Performs a fault as [`observe`](Self::observe) does. Fails if an event was not accepted, or
    /// was not handled in time.
    pub(super) async fn endure(
        &mut self,
        name: &str,
        explains: Explains,
        fault: impl Future<Output = Result<String>>,
    ) -> Result<Noticed> {
        let noticed = self.observe(name, explains, fault).await?;
        let Noticed { accepted, rejected, handled_after, .. } = &noticed;
        ensure!(*accepted > 0, "no event was sent");
        ensure!(rejected.is_empty(), "{} events were not accepted, such as {}", rejected.len(), rejected[0]);
        ensure!(handled_after.is_some(), "not all events were handled after {:?}", self.patience);
        Ok(noticed)
    }

    /// Performs a fault under load, and waits until everything is handled. The cases are called
    /// after `name`.
    pub(super) async fn observe(
        &mut self,
        name: &str,
        explains: Explains,
        fault: impl Future<Output = Result<String>>,
    ) -> Result<Noticed> {
        let outside = &self.production.outside;
        let (_, before) = outside.simulator.application.counts();
        let load = Load { name: name.to_owned(), rate: outside::RATE.into(), sending: Sending::Once };
        let traffic = Traffic::start(&outside.simulator.world, &outside.sender, &load, self.rng.fork());
        sleep(AROUND).await;
        let began = Instant::now();
        let detail = Box::pin(fault).await?;
        let ended = Instant::now();
        self.history.record(name.to_owned(), began, explains);
        sleep(AROUND).await;
        let lanes = traffic.stop().await.context("a task that sends events panicked")?;

        let deadline = Instant::now() + self.patience;
        let settled = self.settle(&lanes).await?;
        let (_, now) = outside.simulator.application.counts();
        let noticed = Noticed {
            accepted: lanes.iter().map(|lane| lane.accepted.len()).sum(),
            rejected: lanes.iter().flat_map(|lane| lane.not_accepted.clone()).collect(),
            longest: lanes.iter().map(|lane| lane.longest).max().unwrap_or_default(),
            handled_after: (settled < deadline).then(|| settled - ended),
            delivered_again: now - before,
            detail,
        };
        self.last = self.sent.len();
        self.sent.extend(lanes);
        Ok(noticed)
    }

    /// Sends one more event in each lane of the last fault, stops the backends, and returns the
    /// broken promises.
    pub(super) async fn violations(&mut self) -> Result<Vec<Violation>> {
        let Production { project, outside } = self.production;
        // After this no backend has an old lease, so no event may be delivered twice.
        sleep(self.lease).await;
        let calm = Instant::now();
        let more = one_more_of_each(&outside.simulator.world, &outside.sender, &self.sent[self.last..]).await;
        self.sent.extend(more);
        self.settle(&self.sent).await?;
        project.compose(&["stop", "backend"]).await?;
        let redis = format!("redis://{}", project.redis().await?);
        checker::check(&outside.simulator, &self.sent, &self.history, calm, &[redis]).await
    }

    /// Checks that every promise was kept.
    pub(super) async fn judge(&mut self) -> Result<String> {
        let violations = self.violations().await?;
        let shown: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
        ensure!(violations.is_empty(), "{} broken promises: {shown:#?}", violations.len());
        let accepted: usize = self.sent.iter().map(|lane| lane.accepted.len()).sum();
        let (delivered, again) = self.production.outside.simulator.application.counts();
        ensure!(delivered == accepted as u64, "{accepted} events were accepted, and {delivered} were delivered");
        Ok(format!("{accepted} events accepted, and delivered in order; {again} deliveries repeated"))
    }

    async fn settle(&self, lanes: &[Lane]) -> Result<Instant> {
        let Production { project, outside } = self.production;
        checker::settle(&outside.simulator, lanes, async || outside::waiting(project).await, self.patience).await
    }
}

impl fmt::Display for Noticed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, rejected, longest, handled_after, delivered_again, detail } = self;
        write!(f, "{detail}; {accepted} of {} events accepted", accepted + rejected.len())?;
        write!(f, ", longest wait {:.2} s, {delivered_again} delivered again", longest.as_secs_f64())?;
        match handled_after {
            Some(after) => write!(f, ", all handled {:.1} s after the end", after.as_secs_f64()),
            None => write!(f, ", not all handled in time"),
        }
    }
}
