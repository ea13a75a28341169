//! A Prometheus that watches a stack with the shipped alerts.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    process::{Process, free_port},
    stack::Stack,
    tools,
};
use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::trial::POLL;

/// How many seconds a minute of the rules lasts.
const MINUTE_S: u64 = 2;
/// How often Prometheus reads the metrics and evaluates the rules.
const INTERVAL: &str = "1s";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Prometheus.
pub(crate) struct Prometheus {
    url: String,
    client: Client,
    _process: Process,
}

impl Prometheus {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(stack: &Stack, client: Client) -> Result<Self> {
        let shipped = tools::workspace().join("deploy/monitoring");
        let folder = stack.folder().join("prometheus");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("alerts.yaml"), in_short_minutes(&fs::read_to_string(shipped.join("alerts.yaml"))?)?)?;
        let config = configuration(&fs::read_to_string(shipped.join("prometheus.yml"))?, stack)?;
        fs::write(folder.join("prometheus.yml"), config)?;
        let port = free_port()?;
        let mut process = run(&folder, port)?;
        let url = format!("http://127.0.0.1:{port}");
        let ready = format!("{url}/-/ready");
        process.wait_until(PATIENCE, || ureq::get(&ready).config().proxy(None).build().call().is_ok())?;
        Ok(Self { url, client, _process: process })
    }

    /// Returns the alerts that fire, with their summaries.
    pub(crate) async fn firing(&self) -> Result<BTreeMap<String, String>> {
        let answer = self.client.get(format!("{}/api/v1/alerts", self.url)).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        let alerts = answer["data"]["alerts"].as_array().context("Prometheus answers without alerts")?;
        let mut firing = BTreeMap::new();
        for alert in alerts.iter().filter(|alert| alert["state"] == "firing") {
            let annotations = alert["annotations"].to_string();
            ensure!(!annotations.contains("<error") && !annotations.contains("<no value>"), "{annotations}");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = text(&alert["labels"]["alertname"]).replace("TruEnroll", "");
            firing.insert(name, text(&alert["annotations"]["summary"]));
        }
        Ok(firing)
    }

    /// Watches for a while, in which no alert must fire.
    pub(crate) async fn fires_nothing_for(&self, period: Duration) -> Result<()> {
        let end = Instant::now() + period;
        while Instant::now() < end {
            let firing = self.firing().await?;
            ensure!(firing.is_empty(), "alerts fire: {firing:?}");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until all these alerts fire; or, if not `wanted`, until none of them does.
    pub(crate) async fn wait(&self, alerts: &[&str], wanted: State, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let firing = self.firing().await?;
            let is_left = |alert: &&&str| firing.contains_key(**alert) != (wanted == State::Firing);
            let left: Vec<_> = alerts.iter().filter(is_left).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not {wanted:?} within {patience:?}: {left:?}; firing are {firing:?}");
            }
            sleep(POLL).await;
        }
    }
}

/// What an alert is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Firing,
    Resolved,
}

fn run(folder: &Path, port: u16) -> Result<Process> {
    let mut prometheus = Command::new(tools::prometheus()?);
    prometheus
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--log.level=warn");
    Process::start("prometheus", &mut prometheus, &folder.join("prometheus.log"))
}

/// Replaces the addresses of containers, and the intervals.
fn configuration(shipped: &str, stack: &Stack) -> Result<String> {
    let address = |url: String| url.replace("http://", "");
    let targets = |url: String| format!("static_configs: [{{ targets: [\"{}\"] }}]", address(url));
    let found = |name: &str, port: u16| {
        format!("dns_sd_configs:\n  - {{ names: [{name}], type: A, port: {port}, refresh_interval: 15s }}")
    };
    let (envoys, backends) = (found("envoy", 9_902), found("backend", 9_090));
    let mut config = shipped.to_owned();
    for (from, to) in [
        (&*envoys, targets(stack.envoy_admin_url())),
        (&*backends, targets(stack.admin())),
        ("scrape_interval: 15s", format!("scrape_interval: {INTERVAL}\n  scrape_timeout: {INTERVAL}")),
        ("evaluation_interval: 15s", format!("evaluation_interval: {INTERVAL}")),
    ] {
        ensure!(config.contains(from), "prometheus.yml does not contain {from}");
        config = config.replace(from, &to);
    }
    Ok(config)
}

/// Shortens every range, offset and `for` of the rules, so that a minute lasts [`MINUTE_S`] seconds.
fn in_short_minutes(rules: &str) -> Result<String> {
    let mut shortened = rules.to_owned();
    let mut found = 0;
    for start in ["[", "offset ", "for: "] {
        let mut pieces = shortened.split(start);
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            text += start;
            let (number, rest) = piece.split_at(piece.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(0));
            let minutes = match rest.chars().next() {
                Some('m') => 1,
                Some('h') => 60,
                Some('d') => 24 * 60,
                _ => bail!("no duration follows {start:?}: {}", piece.lines().next().unwrap_or_default()),
            };
            found += 1;
            text += &format!("{}s{}", number.parse::<u64>()? * minutes * MINUTE_S, &rest[1..]);
        }
        shortened = text;
    }
    ensure!(found > 20, "only {found} durations are in the rules");
    Ok(shortened)
}
