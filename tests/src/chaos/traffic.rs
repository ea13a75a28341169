//! The traffic of a chaos run: events in many lanes, each lane in order, some of them sent
//! repeatedly.

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

use super::Chaos;

/// The events that were sent in one lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) case: String,
    pub(super) feature: Feature,
    /// The keys of the accepted events, in the order of the answers.
    pub(super) accepted: Vec<String>,
    /// The number of repeated requests.
    pub(super) repeated: usize,
    /// The number of events so far.
    events: u32,
}

/// Running traffic.
pub(super) struct Traffic(JoinSet<Lane>);

/// The number of cases. Each has a lane for each feature.
const CASES: usize = 40;
/// How many uploads a lane adds to its case at most. The case's description grows with each.
const UPLOADS: usize = 3;

impl Traffic {
    /// Starts to send events, for as long as faults are injected.
    pub(super) fn start(world: &Arc<World>, sender: &Arc<Sender>, chaos: &Chaos, mut rng: Rng) -> Self {
        let mut lanes = JoinSet::new();
        let until = Instant::now() + chaos.duration;
        let pause = Duration::from_secs_f64((CASES * Feature::ALL.len()) as f64 / chaos.rate);
        for case in 0..CASES {
            let case = format!("chaos-{}-{case}", chaos.seed);
            world.upload(&case, Some("applicant-1"), &Feature::ALL);
            for feature in Feature::ALL {
                let world = Arc::clone(world);
                let sender = Arc::clone(sender);
                let case = case.clone();
                let rng = rng.fork();
                lanes.spawn(send(world, sender, case, feature, until, pause, rng));
            }
        }
        Self(lanes)
    }

    /// Waits until every event is accepted.
    pub(super) async fn finish(mut self) -> Result<Vec<Lane>> {
        let mut all = Vec::new();
        while let Some(lane) = self.0.join_next().await {
            all.push(lane?);
        }
        Ok(all)
    }
}

async fn send(
    world: Arc<World>,
    sender: Arc<Sender>,
    case: String,
    feature: Feature,
    until: Instant,
    pause: Duration,
    mut rng: Rng,
) -> Lane {
    let mut lane = Lane { case, feature, accepted: Vec::new(), repeated: 0, events: 0 };
    let mut sent = Vec::<Event>::new();
    let mut uploads = 0;
    while Instant::now() < until {
        // Sometimes the case gets another upload, whose stages finish at other instants.
        if uploads < UPLOADS && rng.u8(..8) == 0 {
            uploads += 1;
            world.upload(&lane.case, None, &Feature::ALL);
        }
        let Some(event) = lane.next_event(&world, &mut rng) else { break };
        lane.send(&sender, &event).await;
        sent.push(event);
        if rng.u8(..6) == 0 {
            // Sometimes an earlier event is sent again.
            let again = rng.usize(..sent.len());
            sender.send(&sent[again]).await;
            lane.repeated += 1;
        }
        sleep(pause.mul_f64(rng.f64() * 2.0)).await;
    }
    lane
}

/// Sends one more event in each lane.
pub(super) async fn one_more_of_each(world: &Arc<World>, sender: &Arc<Sender>, lanes: &[Lane]) -> Vec<Lane> {
    let mut all = Vec::new();
    for lane in lanes {
        let mut more = Lane {
            case: lane.case.clone(),
            feature: lane.feature,
            accepted: Vec::new(),
            repeated: 0,
            events: lane.events,
        };
        if let Some(event) = more.next_event(world, &mut Rng::with_seed(0)) {
            more.send(sender, &event).await;
        }
        all.push(more);
    }
    all
}

impl Lane {
    fn next_event(&mut self, world: &World, rng: &mut Rng) -> Option<Event> {
        self.events += 1;
        let stage = if rng.u8(..5) == 0 { Stage::Failed } else { Stage::Completed };
        let minute = self.events / 60 % 60;
        let second = self.events % 60;
        let at = format!("2025-06-22T{:02}:{minute:02}:{second:02}Z", self.events / 3_600 % 24);
        world.finish(&self.case, self.feature, stage, &at)
    }

    /// Sends an event until it is accepted.
    async fn send(&mut self, sender: &Sender, event: &Event) {
        loop {
            match sender.send(event).await {
                Answer::Accepted(key) | Answer::Duplicate(key) => return self.accepted.push(key),
                _ => self.repeated += 1,
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
