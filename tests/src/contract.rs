//! The contract between the filter and the backend, recorded as text: what a client sends, what the
//! filter passes on, and what the backend answers.
//!
//! [`Exchange`] is one request with all of this, and [`Upstream`] stands between Envoy and the
//! backend and records both. [`message`] writes requests and answers as text, and sends them.

use std::fmt::Write;

use anyhow::{Context, Result};
use envoy::{ecds, store::Store};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::{backend_settings::PROOF, stack::Stack, tools};

pub mod message;
mod upstream;

pub use upstream::Upstream;

/// The name of the filter's build in every recording. A real name contains the module's hash, so it
/// would differ in each.
pub const BUILD: &str = "recorded";

/// One request and what became of it. Requests and answers are texts of [`message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What is special about the request.
    pub name: String,
    /// The policy under which the filter judged it.
    pub policy: Value,
    /// What the client sent.
    pub sent: String,
    /// What the filter and Envoy passed on to the backend; empty if the filter rejected the
    /// request.
    pub passed: String,
    /// What the backend answered; empty if it was not asked.
    pub answered: String,
}

/// The beginning of an exchange's first line.
const NAME: &str = "== ";
/// The beginning of the line with the policy.
const POLICY: &str = "policy ";
/// The beginnings of the lines of what was sent, passed on, and answered.
const MARKS: [&str; 3] = ["> ", "| ", "< "];

impl Exchange {
    /// Reads a recording.
    ///
    /// # Errors
    /// If an exchange has no policy.
    pub fn read_all(recording: &str) -> Result<Vec<Self>> {
        let blocks = recording.split(NAME).skip(1);
        blocks.map(|block| Self::read(block).with_context(|| format!("exchange {block}"))).collect()
    }

    fn read(block: &str) -> Result<Self> {
        let mut lines = block.lines();
        let name = lines.next().unwrap_or_default().to_owned();
        let policy = lines.next().and_then(|line| line.strip_prefix(POLICY)).context("the second line is no policy")?;
        let [sent, passed, answered] = MARKS.map(|mark| {
            let lines = block.lines().filter(|line| line.get(..1) == mark.get(..1));
            lines.map(|line| line.get(2..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
        });
        Ok(Self { name, policy: serde_json::from_str(policy)?, sent, passed, answered })
    }

    /// Writes the exchange as [`read_all`](Self::read_all) reads it.
    pub fn write(&self) -> String {
        let mut text = format!("{NAME}{}\n{POLICY}{}\n", self.name, self.policy);
        for (mark, part) in MARKS.into_iter().zip([&self.sent, &self.passed, &self.answered]) {
            for line in part.lines() {
                _ = writeln!(text, "{}", format!("{mark}{line}").trim_end());
            }
        }
        text
    }
}

/// Returns the URL of the listener of Envoy that a recorded request is for.
pub fn listener(stack: &Stack, sent: &str) -> String {
    if sent.contains(" /-/guardctl") { stack.envoy_admin_url() } else { stack.edge() }
}

/// Makes the stack's Envoy serve the filter with `policy`, under the name [`BUILD`].
///
/// # Errors
/// If Envoy does not serve it in time.
pub async fn serve_filter(stack: &Stack, policy: &Value) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(15);
    // More than enough to reach each of Envoy's workers.
    const PROBES: usize = 16;
    let store = Store::open(&stack.folder().join("edge"))?;
    let (_, module) = store.keep_build(&std::fs::read(tools::wasm_filter()?)?)?;
    // Envoy's probes tell only the build's name, so the policy is served under a name of its own
    // first.
    for build in ["other", BUILD] {
        let settings = json!({ "build": build, "proof": PROOF, "policy": policy });
        store.serve(&ecds::response(build, &module, &settings))?;
        let edge = stack.publisher()?.edge.context("the stack has no Envoy")?;
        let deadline = Instant::now() + PATIENCE;
        let mut right = 0;
        while right < PROBES {
            anyhow::ensure!(Instant::now() < deadline, "Envoy does not serve the build {build}");
            let asked = edge.clone();
            let served = tokio::task::spawn_blocking(move || asked.probe()).await?;
            right = if served.as_deref() == Ok(build) { right + 1 } else { 0 };
            if right == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_reads_back() {
        let exchange = |name: &str, answered: &str| Exchange {
            name: name.to_owned(),
            policy: json!({ "mode": "shadow" }),
            sent: "POST /path\ncontent-type: application/json\n\n{}".to_owned(),
            passed: "POST /path\nx-edge-judged: proof;recorded;accepted\n\n{}".to_owned(),
            answered: answered.to_owned(),
        };
        let exchanges = [exchange("first", "202\n\n{}"), exchange("second", "")];
        let written: String = exchanges.iter().map(|exchange| exchange.write() + "\n").collect();
        assert_eq!(Exchange::read_all(&format!("A comment.\n\n{written}")).unwrap(), exchanges);
    }
}
