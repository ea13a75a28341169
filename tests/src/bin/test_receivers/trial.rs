//! What each receiver must do, against a real backend.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use axum::http::{HeaderMap, StatusCode};
use envelope::{Feature, SigningKey, Stage};
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    process::{Process, free_port},
    simulator::{
        Simulator,
        sender::{self, Answer, Sender},
        world::Event,
    },
    stack::{Options, Stack},
    tools::Receiver,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::relay::{Passed, Relay, send};

/// A secret that the receiver accepts beside the backend's, as while the secret is being changed.
const OTHER_SECRET: &str = "whsec_YW5vdGhlci1zZWNyZXQtZHVyaW5nLWEtcm90YXRpb24=";
/// A secret that it does not accept.
const UNKNOWN_SECRET: &str = "whsec_YS1zZWNyZXQtdGhhdC1ub2JvZHktaGFzLWNvbmZpZ3VyZWQ=";
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Runs SQL in the database that is the first argument, and prints the rows.
const SQL: &str = "
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    for row in database.execute(*sys.argv[2:3], sys.argv[3:]): print(*row)
";

/// A receiver and a backend that delivers to it.
pub(crate) struct Trial {
    receiver: Receiver,
    process: Process,
    url: String,
    port: u16,
    relay: Relay,
    client: reqwest::Client,
    simulator: Simulator,
    sender: Sender,
    stack: Stack,
    folder: TempDir,
}

impl Trial {
    /// Starts everything, and checks everything that a receiver must do.
    pub(crate) async fn run(receiver: Receiver) -> Result<()> {
        Self::start(receiver).await?.check().await
    }

    async fn start(receiver: Receiver) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}/outcomes");
        let client = sender::client();
        let relay = Relay::start(url.clone(), client.clone()).await?;
        let secrets = format!("{OTHER_SECRET} {SINK_SECRET}");
        let process = run(receiver, &folder, port, &secrets)?;
        let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
        let options = Options::new(simulator.url())
            .backend("sink.url", &relay.url)
            .backend("worker.backoff_base_ms", 20)
            .backend("worker.backoff_cap_ms", 500);
        let stack = Stack::start(options)?;
        let sender = Sender::new(stack.webhook());
        let mut trial = Self { receiver, process, url, port, relay, client, simulator, sender, stack, folder };
        trial.wait_until_it_listens()?;
        Ok(trial)
    }

    async fn check(&mut self) -> Result<()> {
        self.wrong_prefix().context("a secret with a wrong prefix")?;
        let delivered = self.killed_after_storing().await.context("killed between storing and answering")?;
        self.signatures(&delivered).await.context("signatures")?;
        self.never_again().await.context("410")?;
        self.down().await.context("a receiver that is down")
    }

    /// It does not start, and says why.
    fn wrong_prefix(&self) -> Result<()> {
        let mut process = run(self.receiver, &self.folder, free_port()?, &SINK_SECRET.replace("whsec_", "secret_"))?;
        let status = process.wait(PATIENCE)?.context("it starts")?;
        let log = process.log();
        ensure!(!status.success() && log.contains("must be a secret that begins with whsec_"), "{status}: {log}");
        Ok(())
    }

    /// The outcome is delivered again, and stored once.
    async fn killed_after_storing(&mut self) -> Result<Passed> {
        let event = self.event("stored", Feature::Extraction)?;
        self.relay.lose_answers(true);
        self.accepted(&event).await?;
        let stored = |passed: &Passed| passed.status.is_success();
        self.until("it is stored", async || Ok(self.relay.passed(&event.key).iter().any(stored))).await?;
        self.process.kill()?;
        self.start_again()?;
        self.relay.lose_answers(false);
        let before = self.relay.passed(&event.key).len();
        self.until("it comes again", async || Ok(self.relay.passed(&event.key).iter().skip(before).any(stored)))
            .await?;
        ensure!(self.stored()? == [event.key.clone()], "stored: {:?}", self.stored()?);
        self.relay.passed(&event.key).pop().context("nothing has passed")
    }

    /// Only the bytes as they were signed, with a known secret, are accepted.
    async fn signatures(&self, delivered: &Passed) -> Result<()> {
        let Passed { headers, body, .. } = delivered;
        let text = String::from_utf8(body.to_vec())?;
        let tampered = text.replace("applicant-1", "applicant-2");
        let reserialized = serde_json::to_string(&serde_json::from_slice::<serde_json::Value>(body)?)?;
        ensure!(tampered != text && reserialized != text, "the body is unsuitable: {text}");
        let not_utf8 = [body, &[0xff][..]].concat();
        let signed_with = |secret, body: &str| signed(headers, secret, body);
        let test = r#"{"type": "truenroll-edge.test", "test": true}"#;
        for (what, headers, body, expected) in [
            ("the same again", headers.clone(), body.clone(), StatusCode::NO_CONTENT),
            ("a tampered body", headers.clone(), tampered.into(), StatusCode::UNAUTHORIZED),
            (
                "a body that was parsed and written again",
                headers.clone(),
                reserialized.into(),
                StatusCode::UNAUTHORIZED,
            ),
            ("a body that is not UTF-8", headers.clone(), not_utf8.into(), StatusCode::UNAUTHORIZED),
            ("the other secret", signed_with(OTHER_SECRET, &text)?, body.clone(), StatusCode::NO_CONTENT),
            ("an unknown secret", signed_with(UNKNOWN_SECRET, &text)?, body.clone(), StatusCode::UNAUTHORIZED),
            ("a test", signed_with(SINK_SECRET, test)?, test.into(), StatusCode::NO_CONTENT),
            ("no signature", HeaderMap::new(), body.clone(), StatusCode::UNAUTHORIZED),
        ] {
            let status = send(&self.client, &self.url, headers, body).await;
            ensure!(status == expected, "{what}: {status} instead of {expected}");
        }
        ensure!(self.stored()?.len() == 1, "stored: {:?}", self.stored()?);
        Ok(())
    }

    /// The outcome of a case that was erased becomes a dead letter.
    async fn never_again(&self) -> Result<()> {
        self.sql("INSERT INTO erased VALUES (?)", &["erased"])?;
        let event = self.event("erased", Feature::Forensics)?;
        self.accepted(&event).await?;
        self.until("it is a dead letter", async || {
            let metrics = self.stack.backend_metrics().await?;
            Ok(metrics.by_label("truenroll_backend_dead_letters_total", "code").get("sink_rejected") == Some(&1))
        })
        .await?;
        let statuses: Vec<_> = self.relay.passed(&event.key).iter().map(|passed| passed.status).collect();
        ensure!(statuses == [StatusCode::GONE], "{statuses:?}");
        ensure!(!self.stored()?.contains(&event.key), "it is stored");
        Ok(())
    }

    /// The outcome is delivered once the receiver runs again.
    async fn down(&mut self) -> Result<()> {
        self.process.kill()?;
        let event = self.event("later", Feature::Translation)?;
        self.accepted(&event).await?;
        self.until("an attempt fails", async || Ok(!self.relay.passed(&event.key).is_empty())).await?;
        self.start_again()?;
        self.until("it is stored", async || Ok(self.stored()?.contains(&event.key))).await
    }

    fn event(&self, case: &str, feature: Feature) -> Result<Event> {
        self.simulator.world.upload(case, Some("applicant-1"), &[feature]);
        let event = self.simulator.world.finish(case, feature, Stage::Completed, "2025-06-22T10:30:00Z");
        event.context("the case has no such stage")
    }

    async fn accepted(&self, event: &Event) -> Result<()> {
        let answer = self.sender.send(event).await;
        ensure!(answer == Answer::Accepted(event.key.clone()), "the event was not accepted: {answer:?}");
        Ok(())
    }

    /// The keys of the stored outcomes.
    fn stored(&self) -> Result<Vec<String>> {
        Ok(self.sql("SELECT event_key FROM outcomes", &[])?.lines().map(str::to_owned).collect())
    }

    fn sql(&self, statement: &str, values: &[&str]) -> Result<String> {
        sql(&database(&self.folder), statement, values)
    }

    fn start_again(&mut self) -> Result<()> {
        self.process = run(self.receiver, &self.folder, self.port, &format!("{OTHER_SECRET} {SINK_SECRET}"))?;
        self.wait_until_it_listens()
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let port = self.port;
        self.process.wait_until(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    async fn until(&self, what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await? {
            if Instant::now() > deadline {
                bail!("waited {PATIENCE:?} in vain until {what}: {}", self.process.last_lines(5));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Runs a statement in a receiver's database, and returns the rows.
pub(crate) fn sql(database: &Path, statement: &str, values: &[&str]) -> Result<String> {
    let mut python = Command::new("python3");
    let output = python.args(["-c", SQL]).arg(database).arg(statement).args(values).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn database(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("outcomes.db")
}

fn run(receiver: Receiver, folder: &TempDir, port: u16, secrets: &str) -> Result<Process> {
    let mut command = receiver.install()?;
    command.env("SINK_SECRET", secrets).env("PORT", port.to_string()).env("DATABASE", database(folder));
    Process::start("receiver", &mut command, &folder.path().join(format!("{port}.log")))
}

/// The headers of a delivery, signed now with this secret for another body.
fn signed(headers: &HeaderMap, secret: &str, body: &str) -> Result<HeaderMap> {
    let key = SigningKey::parse(secret).ok().context("not a secret")?;
    let id = headers.get("webhook-id").context("no webhook-id")?.to_str()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut signed = headers.clone();
    signed.insert("webhook-timestamp", now.into());
    signed.insert("webhook-signature", key.sign(id, now, body.as_bytes()).parse()?);
    Ok(signed)
}
