//! What happened so far, from what every part of the path counts by itself.

use std::{
    collections::BTreeMap,
    fmt,
    io::{IsTerminal, Write, stdout},
    sync::{Arc, atomic::Ordering},
};

use anyhow::Result;
use harness::{
    simulator::{
        Simulator,
        scenario::Sent,
        sender::{Sender, Tally},
    },
    stack::Stack,
};

/// Reads the counts.
pub(crate) struct Summary<'a> {
    stack: &'a Stack,
    simulator: &'a Simulator,
    sender: &'a Arc<Sender>,
    sent: &'a Arc<Sent>,
    seed: u64,
    refused_before: BTreeMap<String, u64>,
}

/// The counts at one moment.
pub(crate) struct Figures {
    seed: u64,
    tally: Tally,
    events: u64,
    repeated: u64,
    malformed: BTreeMap<String, u64>,
    refused_at_edge: BTreeMap<String, u64>,
    accepted: u64,
    handled: BTreeMap<String, u64>,
    dead_letters: BTreeMap<String, u64>,
    delivered: u64,
    delivered_again: u64,
    complaints: Vec<String>,
}

impl<'a> Summary<'a> {
    pub(crate) async fn new(
        stack: &'a Stack,
        simulator: &'a Simulator,
        sender: &'a Arc<Sender>,
        sent: &'a Arc<Sent>,
        seed: u64,
    ) -> Result<Self> {
        let mut summary = Self { stack, simulator, sender, sent, seed, refused_before: BTreeMap::new() };
        summary.refused_before = summary.refused_at_edge().await?;
        Ok(summary)
    }

    pub(crate) async fn read(&self) -> Result<Figures> {
        let backend = self.stack.backend_metrics().await?;
        let (delivered, delivered_again) = self.simulator.application.counts();
        Ok(Figures {
            seed: self.seed,
            tally: self.sender.tally(),
            events: self.sent.events.load(Ordering::Relaxed),
            repeated: self.sent.repeated.load(Ordering::Relaxed),
            malformed: self.sent.malformed(),
            refused_at_edge: self.refused_at_edge().await?,
            accepted: backend.sum("truenroll_backend_ingest_total", &["answer=\"accepted\""]),
            handled: backend.by_label("truenroll_backend_handled_total", "feature"),
            dead_letters: backend.by_label("truenroll_backend_dead_letters_total", "code"),
            delivered,
            delivered_again,
            complaints: self.simulator.application.complaints(),
        })
    }

    async fn refused_at_edge(&self) -> Result<BTreeMap<String, u64>> {
        let mut refused = self.stack.envoy_metrics().await?.by_label("truenroll_filter_requests", "code");
        refused.remove("accepted");
        for (code, count) in &mut refused {
            *count -= self.refused_before.get(code).copied().unwrap_or_default();
        }
        refused.retain(|_, count| *count > 0);
        Ok(refused)
    }
}

impl Figures {
    fn handled(&self) -> u64 {
        self.handled.values().sum()
    }

    /// Whether everything that was accepted is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.accepted == self.handled() && self.accepted == self.delivered
    }

    /// Whether everything had the end that it should.
    pub(crate) fn is_right(&self) -> bool {
        self.problems().is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let (accepted, delivered) = (self.accepted, self.delivered);
        let checks = [
            (self.tally.accepted == self.events, "not every event was accepted once".to_owned()),
            (self.tally.duplicates == self.repeated, "not every repeated delivery was found to be one".to_owned()),
            (self.tally.refused == self.malformed, format!("rejections were to be {:?}", self.malformed)),
            (self.tally.unavailable == 0, format!("{} requests had no answer", self.tally.unavailable)),
            (
                self.is_drained(),
                format!("{accepted} were accepted, but {} handled, {delivered} delivered", self.handled()),
            ),
            (self.delivered_again == 0, format!("{} were delivered more than once", self.delivered_again)),
            (self.dead_letters.is_empty(), format!("dead letters: {:?}", self.dead_letters)),
            (self.complaints.is_empty(), format!("the application complains: {:?}", self.complaints)),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, problem)| problem).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: u64, note: &str| {
            writeln!(f, "  {name:<12}{count:>8}  {note}")
        };
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "requests")?;
        row(f, "sent", self.tally.sent, &format!("seed {}", self.seed))?;
        row(f, "accepted", self.tally.accepted, "stored before the answer")?;
        row(f, "duplicates", self.tally.duplicates, "known by their key, and dropped")?;
        row(f, "refused", self.tally.refused.values().sum(), "at the edge")?;
        for (code, count) in &self.refused_at_edge {
            writeln!(f, "  {:<12}{count:>8}  {code}", "")?;
        }
        row(f, "unavailable", self.tally.unavailable, "")?;
        writeln!(f, "events")?;
        row(f, "accepted", self.accepted, "")?;
        row(f, "handled", self.handled(), &list(&self.handled))?;
        row(f, "delivered", self.delivered, "each signed, and checked by the application")?;
        row(f, "dead letters", self.dead_letters.values().sum(), &list(&self.dead_letters))?;
        match self.problems() {
            none if none.is_empty() => write!(f, "all is as it should be: accepted = handled = delivered"),
            problems => write!(f, "NOT as it should be:\n  {}", problems.join("\n  ")),
        }
    }
}

/// The counts while they change: one line that is rewritten on a terminal, and a line now and then elsewhere.
#[derive(Default)]
pub(crate) struct Live {
    shown: u64,
}

/// How many times less is written where it cannot be rewritten.
const PLAIN_EVERY: u64 = 5;

impl Live {
    pub(crate) fn show(&mut self, figures: &Figures) {
        self.shown += 1;
        let (tally, refused) = (&figures.tally, figures.tally.refused.values().sum::<u64>());
        let line = format!(
            "  {:>4} s  sent {}  accepted {}  duplicates {}  refused {refused}  handled {}  delivered {}",
            self.shown,
            tally.sent,
            tally.accepted,
            tally.duplicates,
            figures.handled(),
            figures.delivered
        );
        if stdout().is_terminal() {
            print!("\r\x1b[2K{line}");
            _ = stdout().flush();
        } else if self.shown.is_multiple_of(PLAIN_EVERY) {
            println!("{line}");
        }
    }

    pub(crate) fn end(&self) {
        println!();
    }
}
