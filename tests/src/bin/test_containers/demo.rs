//! The profile `demo`, exactly as README.md shows it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    containers::{Session, docker::BUILD, hardening::ensure_hardened, pages},
    simulator::sender::client,
};

const COMMAND: &str = "docker compose --env-file demo.env --profile demo up --build";
/// How long the demo may take to show further progress.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVICES: [&str; 5] = ["filter", "envoy", "backend", "redis", "simulator"];

pub(crate) async fn run(session: &mut Session) -> Result<()> {
    let project = session.project("demo").await?;
    pages::shows("README.md", COMMAND)?;
    let mut up = project.foreground(COMMAND)?;
    let steps = &mut session.steps;
    steps
        .step("demo: build, start, and deliver the first outcome", async {
            up.wait_for(BUILD, |log| counts(log).is_some_and(|counts| counts.delivered > 0)).await?;
            Ok("")
        })
        .await?;
    steps
        .step("demo: every event is answered as it deserves", async {
            let log = up.wait_for(PATIENCE, |log| counts(log).is_some_and(|counts| counts.delivered >= 100)).await?;
            let counts = counts(&log).context("the simulator prints what it counts")?;
            ensure!(counts.unavailable == 0, "{} events were answered 503", counts.unavailable);
            Ok(format!("{} accepted, {} delivered", counts.accepted, counts.delivered))
        })
        .await?;
    steps
        .step("demo: the console answers as it says", async {
            let log = up.log();
            let (_, token) =
                log.split_once("sign in as demo with the password ").context("the console is announced")?;
            let address = project.compose(&["--env-file", "demo.env", "port", "backend", "9091"]).await?;
            let request = client().get(format!("http://{}", address.trim()));
            let token = token.split_whitespace().next();
            let page = request.basic_auth("demo", token).send().await?.error_for_status()?.text().await?;
            ensure!(page.contains("Overview"), "this is not the console: {page}");
            Ok("")
        })
        .await?;
    steps
        .step("demo: every container is hardened", async {
            ensure_hardened(&project, &SERVICES).await?;
            Ok("")
        })
        .await?;
    steps
        .step("demo: Ctrl-C stops everything", async {
            up.interrupt().await?;
            for service in SERVICES {
                let container = project.container(service).await?;
                let state = container.inspect("{{.State.Status}} {{.State.ExitCode}}").await?;
                ensure!(state == "exited 0", "service {service}: {state}");
            }
            Ok("")
        })
        .await?;
    Ok(())
}

/// What the simulator counted so far.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    accepted: u64,
    unavailable: u64,
    delivered: u64,
}

/// Reads the last line in which the simulator prints its counts.
fn counts(log: &str) -> Option<Counts> {
    let line = log.lines().rev().find(|line| line.contains("accepted ") && line.contains("delivered "))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)?.parse().ok());
    Some(Counts { accepted: after("accepted")?, unavailable: after("unavailable")?, delivered: after("delivered")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulators_counts_are_read_from_the_log() {
        let log = "simulator_1 | sent 2  accepted 2  duplicates 0  rejected 0  unavailable 0  delivered 1  repeated 0\n\
                   simulator_1  | sent 9  accepted 7  duplicates 1  rejected 0  unavailable 1  delivered 6  repeated 0\n\
                   envoy_1 | {}\n";
        assert_eq!(counts(log), Some(Counts { accepted: 7, unavailable: 1, delivered: 6 }));
        assert_eq!(counts("envoy_1 | {}\n"), None);
    }
}
