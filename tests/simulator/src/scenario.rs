//! Generates traffic that TruEnroll's documentation allows, and some malformed requests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow};
use envelope::{
    Feature, Stage, Timestamp,
    vectors::{self, Vector},
};
use fastrand::Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    sender::Sender,
    world::{Event, World},
};

/// What to send.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The approximate number of requests per second.
    pub rate: f64,
    /// How long to send; `None` for until stopped.
    pub duration: Option<Duration>,
    /// The share of the events that is sent twice, 0 to 1.
    pub duplicates: f64,
    /// The number of malformed requests per event, 0 to 1.
    pub malformed: f64,
    /// The seed of the random numbers. The same seed generates the same cases.
    pub seed: u64,
}

/// What was sent, in addition to the counts of the [`Sender`].
#[derive(Default)]
pub struct Sent {
    /// The number of different events.
    pub events: AtomicU64,
    /// The number of times that an event was sent again.
    pub repeated: AtomicU64,
    malformed: Mutex<BTreeMap<String, u64>>,
}

impl Sent {
    /// The number of malformed requests by the code of their expected rejection.
    pub fn malformed(&self) -> BTreeMap<String, u64> {
        self.malformed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_malformed(&self, code: String) {
        *self.malformed.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }
}

/// Plays a scenario until its duration is over or `stop` is cancelled, and waits for the answers.
///
/// # Errors
/// If the golden vectors cannot be read.
pub async fn play(
    scenario: &Scenario,
    world: &World,
    sender: &Arc<Sender>,
    edge: &str,
    sent: &Arc<Sent>,
    stop: &CancellationToken,
) -> Result<()> {
    let rejections: Vec<_> = vectors::all().map_err(|error| anyhow!(error))?.into_iter().filter(is_rejected).collect();
    let mut rng = Rng::with_seed(scenario.seed);
    let mut lanes = JoinSet::new();
    let until = scenario.duration.map(|duration| Instant::now() + duration);
    let mut due = Instant::now();
    let mut number = 0;
    while until.is_none_or(|until| due < until) {
        if stop.run_until_cancelled(sleep_until(due)).await.is_none() {
            break;
        }
        number += 1;
        let case = make_case(number, world, &mut rng);
        let events = case.iter().map(Vec::len).sum::<usize>() as f64;
        let requests = events * (1.0 + scenario.duplicates + scenario.malformed);
        due += Duration::from_secs_f64(requests.max(1.0) / scenario.rate);
        for lane in case {
            lanes.spawn(send_lane(lane, scenario.clone(), Arc::clone(sender), Arc::clone(sent), rng.fork()));
        }
        for _ in 0..with_mean(scenario.malformed * events, &mut rng) {
            let vector = rejections[rng.usize(..rejections.len())].clone();
            let sender = Arc::clone(sender);
            let sent = Arc::clone(sent);
            let edge = edge.to_owned();
            lanes.spawn(async move {
                sent.add_malformed(vector.expected().err().map(|rejected| rejected.code).unwrap_or_default());
                sender.send_vector(&edge, &vector).await;
            });
        }
        while lanes.try_join_next().is_some() {}
    }
    while lanes.join_next().await.is_some() {}
    Ok(())
}

/// Whether the default policy rejects a vector.
fn is_rejected(vector: &Vector) -> bool {
    vector.expected().is_err() && vector.policy.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Creates a case with one or two uploads, and returns its events by lane, each lane in order.
fn make_case(number: u64, world: &World, rng: &mut Rng) -> Vec<Vec<Event>> {
    let case: String = (0..20).map(|_| rng.alphanumeric()).chain(number.to_string().chars()).collect();
    let external_id = rng.bool().then(|| format!("applicant-{number}"));
    let mut features = Feature::ALL.to_vec();
    features.retain(|_| rng.f64() < 0.8);
    let uploads = if rng.f64() < 0.3 { 2 } else { 1 };
    let mut lanes: BTreeMap<Feature, Vec<Event>> = BTreeMap::new();
    for upload in 0..uploads {
        world.upload(&case, external_id.as_deref(), &features);
        for &feature in &features {
            let stage = if rng.f64() < 0.15 { Stage::Failed } else { Stage::Completed };
            let event = world.finish(&case, feature, stage, &occurred_at(upload, rng));
            lanes.entry(feature).or_default().extend(event);
        }
    }
    lanes.into_values().collect()
}

/// An instant one or two seconds ago, later for later uploads.
fn occurred_at(upload: u64, rng: &mut Rng) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = Timestamp::from_unix((now.as_secs() - 2 + upload).cast_signed()).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), rng.u16(..1000))
}

/// Sends a lane's events one after the other, since TruEnroll keeps their order. Lanes run
/// concurrently.
async fn send_lane(events: Vec<Event>, scenario: Scenario, sender: Arc<Sender>, sent: Arc<Sent>, mut rng: Rng) {
    for event in events {
        sleep(Duration::from_millis(rng.u64(..300))).await;
        sent.events.fetch_add(1, Ordering::Relaxed);
        sender.send(&event).await;
        if rng.f64() < scenario.duplicates {
            sleep(Duration::from_millis(rng.u64(..200))).await;
            sent.repeated.fetch_add(1, Ordering::Relaxed);
            sender.send(&event).await;
        }
    }
}

/// A random whole number with this mean.
fn with_mean(mean: f64, rng: &mut Rng) -> u64 {
    mean as u64 + u64::from(rng.f64() < mean.fract())
}
