//! A sender that keeps a constant rate and never retries, to show what an operation costs those who send during it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use envelope::{Feature, Stage};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    sender::{Answer, Sender},
    world::World,
};

/// A running sender. Each event belongs to a case of its own and is sent exactly once.
pub struct Steady {
    stop: CancellationToken,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<Result<Report>>,
}

/// What the sender was answered.
#[derive(Debug, Default)]
pub struct Report {
    /// How many events were sent.
    pub sent: usize,
    /// The keys of the events that were accepted. A `duplicate` counts too: it answers an event that was stored by an
    /// earlier attempt of Envoy's.
    pub accepted: Vec<String>,
    /// Every other answer, with its event's key. None of the events deserves one.
    pub undeserved: Vec<(String, Answer)>,
    /// The longest that an event waited for its answer.
    pub longest: Duration,
}

impl Steady {
    /// Starts to send `rate` events per second, of cases whose identifiers begin with `name`.
    pub fn start(world: &Arc<World>, sender: &Arc<Sender>, name: &str, rate: u32) -> Self {
        let (stop, sent) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(send(
            Arc::clone(world),
            Arc::clone(sender),
            name.to_owned(),
            rate,
            stop.clone(),
            Arc::clone(&sent),
        ));
        Self { stop, sent, task }
    }

    /// How many events were sent so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, and waits for the answers that are still to come.
    ///
    /// # Errors
    /// If the sending task panicked.
    pub async fn stop(self) -> Result<Report> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn send(
    world: Arc<World>,
    sender: Arc<Sender>,
    name: String,
    rate: u32,
    stop: CancellationToken,
    sent: Arc<AtomicUsize>,
) -> Result<Report> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    // A late tick is made up for at once, so that the rate is kept on a busy machine.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answers = JoinSet::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let (case, feature) = (format!("{name}-{number}"), Feature::ALL[number % 4]);
        world.upload(&case, None, &[feature]);
        let Some(event) = world.end(&case, feature, Stage::Completed, "2025-06-22T10:30:00Z") else { continue };
        let sender = Arc::clone(&sender);
        answers.spawn(async move {
            let began = Instant::now();
            let answer = sender.send(&event).await;
            (event.key, answer, began.elapsed())
        });
    }
    let mut report = Report::default();
    while let Some(answered) = answers.join_next().await {
        let (key, answer, waited) = answered?;
        report.sent += 1;
        report.longest = report.longest.max(waited);
        match answer {
            Answer::Accepted(_) | Answer::Duplicate(_) => report.accepted.push(key),
            other => report.undeserved.push((key, other)),
        }
    }
    Ok(report)
}
