//! The figures that `cargo up` shows. Every program on an event's path keeps its own counts, and
//! these must agree.

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

/// Reads the counts of all programs.
pub(crate) struct Summary<'a> {
    stack: &'a Stack,
    simulator: &'a Simulator,
    sender: &'a Arc<Sender>,
    sent: &'a Arc<Sent>,
    seed: u64,
    rejected_before: BTreeMap<String, u64>,
}

/// The counts at one instant.
pub(crate) struct Figures {
    seed: u64,
    tally: Tally,
    events: u64,
    repeated: u64,
    malformed: BTreeMap<String, u64>,
    rejected_by_filter: BTreeMap<String, u64>,
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
        let mut summary = Self { stack, simulator, sender, sent, seed, rejected_before: BTreeMap::new() };
        summary.rejected_before = summary.rejected_by_filter().await?;
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
            rejected_by_filter: self.rejected_by_filter().await?,
            accepted: backend.sum("truenroll_backend_ingest_total", &["answer=\"accepted\""]),
            handled: backend.by_label("truenroll_backend_handled_total", "feature"),
            dead_letters: backend.by_label("truenroll_backend_dead_letters_total", "code"),
            delivered,
            delivered_again,
            complaints: self.simulator.application.complaints(),
        })
    }

    async fn rejected_by_filter(&self) -> Result<BTreeMap<String, u64>> {
        let mut rejected = self.stack.envoy_metrics().await?.by_label("truenroll_filter_requests", "code");
        rejected.remove("accepted");
        for (code, count) in &mut rejected {
            *count -= self.rejected_before.get(code).copied().unwrap_or_default();
        }
        rejected.retain(|_, count| *count > 0);
        Ok(rejected)
    }
}

impl Figures {
    fn handled(&self) -> u64 {
        self.handled.values().sum()
    }

    /// Whether every accepted event is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.accepted == self.handled() && self.accepted == self.delivered
    }

    /// Whether every request had the expected result.
    pub(crate) fn is_correct(&self) -> bool {
        self.problems().is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let accepted = self.accepted;
        let delivered = self.delivered;
        let checks = [
            (
                self.tally.accepted == self.events,
                format!("{} events were sent, but {} were accepted", self.events, self.tally.accepted),
            ),
            (
                self.tally.duplicates == self.repeated,
                format!(
                    "{} events were sent again, but {} were recognized as duplicates",
                    self.repeated, self.tally.duplicates
                ),
            ),
            (
                self.tally.rejected == self.malformed,
                format!("expected rejections: {:?}, actual: {:?}", self.malformed, self.tally.rejected),
            ),
            (
                self.tally.unavailable == 0,
                format!("{} requests were answered with 503 or not at all", self.tally.unavailable),
            ),
            (
                self.is_drained(),
                format!("{accepted} events were accepted, {} handled, {delivered} delivered", self.handled()),
            ),
            (self.delivered_again == 0, format!("{} outcomes were delivered again", self.delivered_again)),
            (self.dead_letters.is_empty(), format!("there are dead letters: {:?}", self.dead_letters)),
            (self.complaints.is_empty(), format!("the application rejected outcomes: {:?}", self.complaints)),
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
        row(f, "duplicates", self.tally.duplicates, "recognized by their event key, not stored again")?;
        row(f, "rejected", self.tally.rejected.values().sum(), "by the filter")?;
        for (code, count) in &self.rejected_by_filter {
            writeln!(f, "  {:<12}{count:>8}  {code}", "")?;
        }
        row(f, "unavailable", self.tally.unavailable, "")?;
        writeln!(f, "events")?;
        row(f, "accepted", self.accepted, "")?;
        row(f, "handled", self.handled(), &list(&self.handled))?;
        row(f, "delivered", self.delivered, "signed; the application verified each signature")?;
        row(f, "dead letters", self.dead_letters.values().sum(), &list(&self.dead_letters))?;
        match self.problems() {
            none if none.is_empty() => {
                write!(f, "Every event had the expected result: accepted = handled = delivered.")
            }
            problems => write!(f, "UNEXPECTED RESULT:\n  {}", problems.join("\n  ")),
        }
    }
}

/// The progress line: on a terminal one line that is rewritten every second, elsewhere a new line
/// every five seconds.
#[derive(Default)]
pub(crate) struct Live {
    shown: u64,
}

/// How many updates are skipped for each line that is printed without a terminal.
const PLAIN_EVERY: u64 = 5;

impl Live {
    pub(crate) fn show(&mut self, figures: &Figures) {
        self.shown += 1;
        let tally = &figures.tally;
        let rejected: u64 = tally.rejected.values().sum();
        let line = format!(
            "  {:>4} s  sent {}  accepted {}  duplicates {}  rejected {rejected}  handled {}  delivered {}",
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
