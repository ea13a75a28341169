//! What the consumer of a stream must do, against a real backend and a real Redis.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    process::Process,
    proxy::{Fault, Proxy},
    redis_server::{FSYNC, RedisOptions, RedisServer},
    simulator::{
        Simulator,
        sender::{Answer, Sender},
    },
    stack::{Options, Stack},
    tools::{self, Receiver},
};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use crate::trial::{PATIENCE, sql};

const STREAM: &str = "truenroll-outcomes";
/// The placeholder for the password in docs/OUTCOMES.md, and the name of the user that it creates.
const PASSWORD: &str = "PASSWORD";
const USER: &str = "application";

/// A backend that adds to a stream, and the Redis server that holds it.
pub(crate) struct StreamTrial {
    simulator: Simulator,
    sender: Sender,
    stack: Stack,
    server: RedisServer,
    folder: TempDir,
}

impl StreamTrial {
    /// Starts everything, and checks everything that a consumer must do.
    pub(crate) async fn run() -> Result<()> {
        let server = RedisServer::start(RedisOptions::with(&FSYNC))?;
        create_user(&server)?;
        let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
        let options =
            Options::new(simulator.url()).backend("sink.kind", "redis").backend("sink.redis_url", server.url());
        let stack = Stack::start(options)?;
        let sender = Sender::new(stack.webhook());
        let trial = Self { simulator, sender, stack, server, folder: tempfile::tempdir()? };
        let stored = trial.in_order().await.context("outcomes that were added before it started")?;
        trial.repeated(&stored).await.context("an outcome that comes again, and a test")?;
        trial.killed_before_acknowledging().await.context("killed between storing and acknowledging")
    }

    /// Stores what was added before it started, in order. Returns the keys.
    async fn in_order(&self) -> Result<Vec<String>> {
        let mut sent = Vec::new();
        for second in 0..20 {
            sent.push(self.send("ordered", &format!("2025-06-22T10:30:{second:02}Z")).await?);
        }
        self.until("all are added", || Ok(self.count("XLEN")? == 20)).await?;
        let consumer = self.consumer(self.server.address())?;
        self.until("all are handled", || self.is_handled()).await.with_context(|| consumer.last_lines(5))?;
        ensure!(self.stored()? == sent, "stored: {:?}, sent: {sent:?}", self.stored()?);
        Ok(sent)
    }

    /// Stores nothing twice, and no test.
    async fn repeated(&self, stored: &[String]) -> Result<()> {
        let consumer = self.consumer(self.server.address())?;
        let body = sql(&self.database(), "SELECT CAST(body AS TEXT) FROM outcomes LIMIT 1", &[])?;
        for _ in 0..2 {
            let fields = ["idempotency_key", &stored[0], "event", "", "webhook_id", "", "body", body.trim_end()];
            () = self.server.ask(&[&["XADD", STREAM, "*"], &fields[..]].concat())?;
        }
        let doctor = self.stack.backend_command(&["doctor", "--json", "--probe-sink"])?;
        ensure!(doctor.contains("a test was added to the stream"), "{doctor}");
        self.until("all are handled", || self.is_handled()).await.with_context(|| consumer.last_lines(5))?;
        ensure!(self.stored()? == stored, "stored: {:?}", self.stored()?);
        Ok(())
    }

    /// The entry is read again, and the outcome is stored once.
    async fn killed_before_acknowledging(&self) -> Result<()> {
        let proxy = Proxy::start(self.server.address())?;
        let mut consumer = self.consumer(proxy.address())?;
        let is_waiting = || Ok(self.server.ask::<String>(&["INFO", "clients"])?.contains("blocked_clients:1"));
        self.until("it waits for an entry", is_waiting).await.with_context(|| consumer.last_lines(5))?;
        proxy.fail(Fault::RequestsCut);
        let key = self.send("killed", "2025-06-22T10:30:00Z").await?;
        self.until("it is stored", || Ok(self.stored()?.contains(&key))).await?;
        consumer.kill()?;
        drop(proxy);
        ensure!(self.count("XLEN")? == 1, "it was acknowledged");
        let before = self.stored()?;
        let consumer = self.consumer(self.server.address())?;
        self.until("it is handled", || self.is_handled()).await.with_context(|| consumer.last_lines(5))?;
        ensure!(self.stored()? == before, "stored: {:?}", self.stored()?);
        Ok(())
    }

    /// Starts a consumer that reads from this address as the application's user.
    fn consumer(&self, redis: SocketAddr) -> Result<Process> {
        let mut command = Receiver::Redis.install()?;
        command.env("REDIS_URL", format!("redis://{USER}:{PASSWORD}@{redis}")).env("DATABASE", self.database());
        Process::start("consumer", &mut command, &self.folder.path().join("consumer.log"))
    }

    async fn send(&self, case: &str, at: &str) -> Result<String> {
        self.simulator.world.upload(case, Some("applicant-1"), &[Feature::Extraction]);
        let event = self.simulator.world.finish(case, Feature::Extraction, Stage::Completed, at);
        let event = event.context("the case has no such stage")?;
        let answer = self.sender.send(&event).await;
        ensure!(answer == Answer::Accepted(event.key.clone()), "the event was not accepted: {answer:?}");
        Ok(event.key)
    }

    /// The keys of the stored outcomes, in the order in which they were stored.
    fn stored(&self) -> Result<Vec<String>> {
        let rows = sql(&self.database(), "SELECT event_key FROM outcomes ORDER BY rowid", &[])?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// Whether no entry is left, read or not.
    fn is_handled(&self) -> Result<bool> {
        let (pending, ..): (u64, redis::Value, redis::Value, redis::Value) =
            self.server.ask(&["XPENDING", STREAM, "application"])?;
        Ok(pending == 0 && self.count("XLEN")? == 0)
    }

    fn count(&self, command: &str) -> Result<u64> {
        Ok(self.server.ask(&[command, STREAM])?)
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("outcomes.db")
    }

    async fn until(&self, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // The group does not exist before the consumer has created it.
        while !condition().unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("waited {PATIENCE:?} in vain until {what}");
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Creates the user of the application as the page says.
fn create_user(server: &RedisServer) -> Result<()> {
    let page = fs::read_to_string(tools::workspace().join("docs/OUTCOMES.md"))?;
    let command = page.lines().find(|line| line.starts_with(&format!("ACL SETUSER {USER} ")));
    let words: Vec<_> = command.context("docs/OUTCOMES.md creates no user for the application")?.split(' ').collect();
    Ok(server.ask::<()>(&words)?)
}
