//! The traffic while faults are injected: events in many lanes, each lane in order, some of them
//! sent repeatedly.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use envelope::{Feature, Stage};
use fastrand::Rng;
use simulator::{
    sender::{Answer, Sender},
    world::{Event, World},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// What the IDs of the cases begin with.
    pub name: String,
    /// The approximate number of events per second.
    pub rate: f64,
    /// What to do with an event that was not accepted.
    pub sending: Sending,
}

/// What to do with an event that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Send it again until it is accepted.
    UntilAccepted,
    /// Never send it again. TruEnroll documents no retries.
    Once,
}

/// The events that were sent in one lane.
#[derive(Debug)]
pub struct Lane {
    pub(super) case: String,
    pub(super) feature: Feature,
    /// The keys of the accepted events, in the order of the answers.
    pub accepted: Vec<String>,
    /// The keys of the events that were sent once and not accepted.
    pub not_accepted: Vec<String>,
    /// The number of repeated requests.
    pub repeated: usize,
    /// The longest time that a request waited for its answer.
    pub longest: Duration,
    /// The number of events so far.
    events: u32,
}

/// Running traffic.
pub struct Traffic {
    stop: CancellationToken,
    lanes: JoinSet<Lane>,
}

/// The number of cases. Each has a lane for each feature.
const CASES: usize = 40;
/// How many uploads a lane adds to its case at most. The case's description grows with each.
const UPLOADS: usize = 3;

impl Traffic {
    /// Starts to send events.
    pub fn start(world: &Arc<World>, sender: &Arc<Sender>, load: &Load, mut rng: Rng) -> Self {
        let mut lanes = JoinSet::new();
        let stop = CancellationToken::new();
        for case in 0..CASES {
            let case = format!("{}-{case}", load.name);
            world.upload(&case, Some("applicant-1"), &Feature::ALL);
            for feature in Feature::ALL {
                let lane = Lane::new(case.clone(), feature);
                lanes.spawn(lane.run(Arc::clone(world), Arc::clone(sender), load.clone(), stop.clone(), rng.fork()));
            }
        }
        Self { stop, lanes }
    }

    /// Stops sending, and waits until every event is answered.
    ///
    /// # Errors
    /// If a task that sends events panicked.
    pub async fn stop(mut self) -> Result<Vec<Lane>> {
        self.stop.cancel();
        let mut all = Vec::new();
        while let Some(lane) = self.lanes.join_next().await {
            all.push(lane?);
        }
        Ok(all)
    }
}

/// Sends one more event in each lane.
pub async fn one_more_of_each(world: &Arc<World>, sender: &Arc<Sender>, lanes: &[Lane]) -> Vec<Lane> {
    let mut all = Vec::new();
    for lane in lanes {
        let mut more = Lane { events: lane.events, ..Lane::new(lane.case.clone(), lane.feature) };
        if let Some(event) = more.next_event(world, &mut Rng::with_seed(0)) {
            more.send(sender, &event, Sending::UntilAccepted).await;
        }
        all.push(more);
    }
    all
}

impl Lane {
    fn new(case: String, feature: Feature) -> Self {
        Self {
            case,
            feature,
            accepted: Vec::new(),
            not_accepted: Vec::new(),
            repeated: 0,
            longest: Duration::ZERO,
            events: 0,
        }
    }

    /// Sends events until `stop` is cancelled.
    async fn run(
        mut self,
        world: Arc<World>,
        sender: Arc<Sender>,
        load: Load,
        stop: CancellationToken,
        mut rng: Rng,
    ) -> Self {
        let pause = Duration::from_secs_f64((CASES * Feature::ALL.len()) as f64 / load.rate);
        let mut sent = Vec::<Event>::new();
        let mut uploads = 0;
        while !stop.is_cancelled() {
            // Sometimes the case gets another upload, whose stages finish at other instants.
            if uploads < UPLOADS && rng.u8(..8) == 0 {
                uploads += 1;
                world.upload(&self.case, None, &Feature::ALL);
            }
            let Some(event) = self.next_event(&world, &mut rng) else { break };
            self.send(&sender, &event, load.sending).await;
            sent.push(event);
            if rng.u8(..6) == 0 {
                // Sometimes an earlier event is sent again.
                let again = rng.usize(..sent.len());
                sender.send(&sent[again]).await;
                self.repeated += 1;
            }
            stop.run_until_cancelled(sleep(pause.mul_f64(rng.f64() * 2.0))).await;
        }
        self
    }

    fn next_event(&mut self, world: &World, rng: &mut Rng) -> Option<Event> {
        self.events += 1;
        let stage = if rng.u8(..5) == 0 { Stage::Failed } else { Stage::Completed };
        let minute = self.events / 60 % 60;
        let second = self.events % 60;
        let at = format!("2025-06-22T{:02}:{minute:02}:{second:02}Z", self.events / 3_600 % 24);
        world.finish(&self.case, self.feature, stage, &at)
    }

    /// Sends an event, and until it is accepted if `sending` says so.
    async fn send(&mut self, sender: &Sender, event: &Event, sending: Sending) {
        loop {
            let began = Instant::now();
            let answer = sender.send(event).await;
            self.longest = self.longest.max(began.elapsed());
            match (answer, sending) {
                (Answer::Accepted(key) | Answer::Duplicate(key), _) => return self.accepted.push(key),
                (_, Sending::Once) => return self.not_accepted.push(event.key.clone()),
                (_, Sending::UntilAccepted) => self.repeated += 1,
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
