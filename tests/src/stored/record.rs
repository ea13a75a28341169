//! Plays the scenario with a backend, and records what Redis holds at the end.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use envelope::{
    CaseId,
    headers::{self, Judgement, Mark},
};
use reqwest::StatusCode;
use simulator::{
    Simulator,
    sender::client,
    world::{Event, World},
};

use super::{
    Scenario,
    scenario::{PAUSED, finish},
};
use crate::{
    backend_settings::{API_KEY, BackendSettings, PROOF, SINK_SECRET},
    keys,
    process::{Process, free_port},
    redis_server::{FSYNC, RedisOptions, RedisServer},
};

/// Makes Redis write its append-only file as plain text, with the time at which it wrote it.
const PLAIN_TEXT: [&str; 6] =
    ["--aof-use-rdb-preamble", "no", "--aof-timestamp-enabled", "yes", "--auto-aof-rewrite-percentage", "0"];
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A backend under way through the scenario.
struct Recording<'a> {
    program: &'a Path,
    settings: BackendSettings,
    ingest: String,
    simulator: Simulator,
    redis: RedisServer,
}

/// Plays the scenario with the backend `program`, kills it, and returns the append-only file of
/// Redis.
///
/// # Errors
/// If a step does not succeed in time.
pub async fn record(program: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut options = RedisOptions::with(&[&FSYNC[..], &PLAIN_TEXT].concat());
    options.folder = Some(folder.path().join("redis"));
    let redis = RedisServer::start(options)?;
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    let (ingest, admin) = (free_port()?, free_port()?);
    let settings = BackendSettings::usual(ingest, admin)
        .with_simulator(&simulator.url())
        .with("redis.url", redis.url())
        .with("worker.backoff_base_ms", 20)
        .with("worker.backoff_cap_ms", 500)
        // The first round begins after 1 to 3 s.
        .with("reconciler.interval_s", 20);
    let ingest = format!("http://127.0.0.1:{ingest}");
    let recording = Recording { program, settings, ingest, simulator, redis };

    Scenario::begin(&recording.simulator.world)?;
    let mut command = recording.command();
    let mut backend = Process::start("backend", command.arg("serve"), &folder.path().join("backend.log"))?;
    recording.play().await.with_context(|| format!("the backend's log ends:\n{}", backend.last_lines(10)))?;
    backend.kill()?;
    recording.rewrite(&folder.path().join("redis/appendonlydir"))
}

impl Recording<'_> {
    async fn play(&self) -> Result<()> {
        let world = &self.simulator.world;
        let application = &self.simulator.application;
        let scenario = Scenario::events(world)?;
        self.wait_for("the first round has ended", || self.exists(&keys::keys().last_round())).await?;

        for event in &scenario.completed {
            self.send_finished(event).await?;
        }
        self.delivered(4).await?;
        for (number, event) in scenario.dead.iter().enumerate() {
            application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
            self.send_finished(event).await?;
            self.wait_for("the event is a dead letter", || Ok(self.run(&["dead"])?.lines().count() > number)).await?;
        }
        self.backfill(world, &scenario.backfilled)?;
        self.delivered(5).await?;

        application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 100_000]);
        self.backfill(world, &scenario.backfilled_waiting)?;
        for event in &scenario.waiting {
            self.send_finished(event).await?;
        }
        self.run(&["pause", PAUSED.as_str()])?;
        for event in &scenario.paused {
            self.send_finished(event).await?;
        }
        finish(world, &scenario.missing)?;
        let said = self.run(&["reconcile"])?;
        ensure!(said.contains("1 within the grace period"), "{said}");
        self.send(&scenario.undocumented, Mark::Quarantined).await?;
        self.quarantine(&scenario.newly_documented)?;
        self.wait_for("the first event of each lane waits for a retry", || Ok(self.attempted()? == 4)).await
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.envs(self.settings.environment());
        command
    }

    /// Runs a command of the backend, and returns what it prints.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command().args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn send_finished(&self, event: &Event) -> Result<()> {
        finish(&self.simulator.world, event)?;
        self.send(event, Mark::Accepted).await
    }

    /// Sends an event as the filter would pass it on.
    async fn send(&self, event: &Event, mark: Mark<'_>) -> Result<()> {
        let judged = Judgement::write(PROOF, "recording", mark);
        let request = client().post(&self.ingest).header(headers::JUDGED, judged).body(event.body.clone());
        let status = request.send().await?.status();
        ensure!(status == StatusCode::ACCEPTED, "{}: {status}", event.key);
        Ok(())
    }

    /// Lets the reconciler find an event that never arrives.
    fn backfill(&self, world: &World, event: &Event) -> Result<()> {
        finish(world, event)?;
        let mut command = self.command();
        let settings = BackendSettings::default().with("reconciler.grace_s", 0);
        let output = command.envs(settings.environment()).arg("reconcile").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains(": 1 event backfilled"), "{said}");
        Ok(())
    }

    /// Adds an event to the quarantine, as a version that did not know it would have done.
    fn quarantine(&self, event: &Event) -> Result<()> {
        let case = CaseId::new(&event.case).context("the case has a valid identifier")?;
        let quarantine = keys::of_case(&case).quarantine();
        let add = ["XADD", &quarantine, "*", "key", &event.key, "body", &event.body, "received", "1750588200000"];
        Ok(self.redis.ask(&add)?)
    }

    /// The number of events that have had an attempt and are still in the inbox.
    fn attempted(&self) -> Result<u64> {
        let mut attempted = 0;
        for keys in keys::of_all_partitions() {
            for feature in envelope::Feature::ALL {
                attempted += self.redis.ask::<u64>(&["HLEN", &keys.attempts(feature)])?;
            }
        }
        Ok(attempted)
    }

    fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.redis.ask(&["EXISTS", key])?)
    }

    async fn delivered(&self, events: u64) -> Result<()> {
        self.wait_for("the events are delivered", || Ok(self.simulator.application.counts().0 == events)).await
    }

    async fn wait_for(&self, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition()? {
            if Instant::now() > deadline {
                bail!("waited {PATIENCE:?} in vain until {what}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Lets Redis write the shortest append-only file of what it holds, and returns that file.
    fn rewrite(&self, folder: &Path) -> Result<String> {
        self.redis.ask::<()>(&["BGREWRITEAOF"])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info: String = self.redis.ask(&["INFO", "persistence"])?;
            if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
                break;
            }
            ensure!(Instant::now() < deadline, "Redis did not rewrite its append-only file in time");
            std::thread::sleep(Duration::from_millis(10));
        }
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.to_string_lossy().ends_with(".base.aof") {
                return Ok(fs::read_to_string(path)?);
            }
        }
        bail!("{} has no base file", folder.display())
    }
}
