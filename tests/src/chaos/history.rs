//! The faults of the past, which explain why an event was delivered again.

use std::time::{Duration, Instant};

/// A fault in the past.
struct Outage {
    what: String,
    began: Instant,
    ended: Instant,
    explains: Explains,
}

/// Whether a fault can be the reason that an event is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explains {
    /// It can: the application's answer was lost, a backend lost its lease, or a backend could not
    /// record in Redis that the event is completed.
    AnotherDelivery,
    /// It cannot.
    Nothing,
}

/// All faults so far.
pub struct History {
    outages: Vec<Outage>,
    aftermath: Duration,
}

impl History {
    /// Creates an empty history. A fault explains what happens until `aftermath` after its end.
    pub fn new(aftermath: Duration) -> Self {
        Self { outages: Vec::new(), aftermath }
    }

    /// Records a fault that began at `began` and has ended now.
    pub fn record(&mut self, what: String, began: Instant, explains: Explains) {
        self.outages.push(Outage { what, began, ended: Instant::now(), explains });
    }

    /// Whether a fault between two instants, or shortly before, explains that an event was
    /// delivered again.
    pub(super) fn explains_between(&self, from: Instant, to: Instant) -> bool {
        self.between(from, to).any(|outage| outage.explains == Explains::AnotherDelivery)
    }

    /// Describes the faults between two instants, or shortly before, in seconds relative to the
    /// first one.
    pub(super) fn describe_between(&self, from: Instant, to: Instant) -> String {
        let seconds = |at: Instant| {
            at.saturating_duration_since(from).as_secs_f64() - from.saturating_duration_since(at).as_secs_f64()
        };
        let outages = self.between(from, to).map(|outage| {
            format!("{} from {:.2} s to {:.2} s", outage.what, seconds(outage.began), seconds(outage.ended))
        });
        outages.collect::<Vec<_>>().join(", ")
    }

    fn between(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Outage> {
        self.outages.iter().filter(move |outage| outage.began <= to && outage.ended + self.aftermath >= from)
    }
}
