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

use crate::answers::Application;

/// Reads the counts of all programs.
pub(crate) struct Summary<'a> {
    stack: &'a Stack,
    simulator: &'a Simulator,
    application: Application,
    sender: &'a Arc<Sender>,
    sent: &'a Arc<Sent>,
    seed: u64,
    rejected_before: BTreeMap<String, u64>,
}

/// The counts at one instant.
pub(crate) struct Figures {
    seed: u64,
    application: Application,
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
        application: Application,
        sender: &'a Arc<Sender>,
        sent: &'a Arc<Sent>,
        seed: u64,
    ) -> Result<Self> {
        let mut summary = Self { stack, simulator, application, sender, sent, seed, rejected_before: BTreeMap::new() };
        summary.rejected_before = summary.rejected_by_filter().await?;
        Ok(summary)
    }

    pub(crate) async fn read(&self) -> Result<Figures> {
        let backend = self.stack.backend_metrics().await?;
        let handled = backend.by_label("truenroll_backend_handled_total", "feature");
        let (delivered, delivered_again) = match self.application {
            Application::Simulated => self.simulator.application.counts(),
            // The backend counts an event as handled after a 2xx.
            Application::Own => (handled.values().sum(), 0),
        };
        Ok(Figures {
            seed: self.seed,
            application: self.application,
            tally: self.sender.tally(),
            events: self.sent.events.load(Ordering::Relaxed),
            repeated: self.sent.repeated.load(Ordering::Relaxed),
            malformed: self.sent.malformed(),
            rejected_by_filter: self.rejected_by_filter().await?,
            accepted: backend.sum("truenroll_backend_ingest_total", &["answer=\"accepted\""]),
            handled,
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

    fn all_dead_letters(&self) -> u64 {
        self.dead_letters.values().sum()
    }

    /// Whether every accepted event is delivered or a dead letter.
    pub(crate) fn is_drained(&self) -> bool {
        let done = |count: u64| count + self.all_dead_letters() >= self.accepted;
        done(self.handled()) && done(self.delivered)
    }

    /// Whether the events had the expected end. An application of the developer's own may answer
    /// 410, which leaves dead letters.
    fn have_ended(&self) -> bool {
        match self.application {
            Application::Simulated => self.accepted == self.handled() && self.accepted == self.delivered,
            Application::Own => self.is_drained(),
        }
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
                self.have_ended(),
                format!("{accepted} events were accepted, {} handled, {delivered} delivered", self.handled()),
            ),
            (self.delivered_again == 0, format!("{} outcomes were delivered again", self.delivered_again)),
            (
                self.dead_letters.is_empty() || self.application == Application::Own,
                format!("there are dead letters: {:?}", self.dead_letters),
            ),
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
        let delivered = match self.application {
            Application::Simulated => "signed; the application verified each signature",
            Application::Own => "your application answered 2xx",
        };
        row(f, "delivered", self.delivered, delivered)?;
        row(f, "dead letters", self.all_dead_letters(), &list(&self.dead_letters))?;
        match self.problems() {
            none if none.is_empty() && self.all_dead_letters() > 0 => {
                write!(f, "Every event had the expected result: delivered, or a dead letter.")
            }
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
    /// Shows news, and then the progress.
    pub(crate) fn show(&mut self, news: &[String], figures: &Figures) {
        Self::tell(news);
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

    /// Shows the last news.
    pub(crate) fn end(&self, news: &[String]) {
        Self::tell(news);
        println!();
    }

    fn tell(news: &[String]) {
        // On a terminal, the progress line is overwritten, and then written again below.
        let beginning = if stdout().is_terminal() { "\r\x1b[2K" } else { "" };
        for line in news {
            println!("{beginning}  {line}");
        }
    }
}
