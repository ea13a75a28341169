//! A sender with a constant rate that never retries, to show how an operation affects senders.

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

/// A running sender. Each event is of a different case and is sent exactly once.
pub struct Steady {
    stop: CancellationToken,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<Result<Report>>,
}

/// The answers that the sender received.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of events that were sent.
    pub sent: usize,
    /// The keys of the accepted events. An answer of `duplicate` counts as well: Envoy's previous
    /// attempt stored the event.
    pub accepted: Vec<String>,
    /// Every other answer, with its event key. All events are valid, so there should be none.
    pub undeserved: Vec<(String, Answer)>,
    /// The longest time that an event waited for its answer.
    pub longest: Duration,
}

impl Steady {
    /// Starts to send `rate` events per second, of cases whose IDs begin with `name`.
    pub fn start(world: &Arc<World>, sender: &Arc<Sender>, name: &str, rate: u32) -> Self {
        let stop = CancellationToken::new();
        let sent = Arc::new(AtomicUsize::new(0));
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

    /// The number of events that were sent so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, and waits for the outstanding answers.
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
    // After a late tick the sender catches up, which keeps the rate on a busy machine.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answers = JoinSet::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let case = format!("{name}-{number}");
        let feature = Feature::ALL[number % 4];
        world.upload(&case, None, &[feature]);
        let Some(event) = world.finish(&case, feature, Stage::Completed, "2025-06-22T10:30:00Z") else { continue };
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
