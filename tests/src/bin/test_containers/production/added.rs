//! What docs/OPERATIONS.md adds to the Compose file: other settings, the console, and the monitoring.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use axum::http::StatusCode;
use harness::{
    containers::{Production, Project, Steps, base_images::DEBIAN_IMAGE, pages, production::SERVICES},
    process::free_port,
    simulator::sender::client,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

const PAGE: &str = "docs/OPERATIONS.md";
const REPLACE: &str = "docker compose up -d --no-deps backend";
/// Prometheus looks for targets, and asks them, every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    let Production { project, outside } = production;
    let settings = project.folder.join(".env");
    let before = fs::read(&settings)?;

    let other = other_settings(project);
    steps.step("a setting that `.env` does not have", outside.planned(project, "setting", other)).await?;
    let proof = new_proof(project);
    steps.step("the proof is changed", outside.planned(project, "proof", proof)).await?;
    steps.step("the console is added", console(project)).await?;
    steps.step("Prometheus and Grafana are added", monitoring(project)).await?;

    let without = async {
        project.compose(&["rm", "--stop", "--force", "prometheus"]).await?;
        fs::write(&settings, before)?;
        replace_backend(project).await
    };
    steps.step("all of it is taken away", outside.planned(project, "away", without)).await?;
    Ok(())
}

/// Replaces the backends, and waits for the new ones.
async fn replace_backend(project: &Project) -> Result<()> {
    project.shown(PAGE, REPLACE).await?;
    project.healthy(&SERVICES).await
}

/// Appends lines to `.env`. A later line overrides an earlier one.
fn set(project: &Project, lines: &str) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(project.folder.join(".env"))?;
    Ok(writeln!(file, "{lines}")?)
}

/// Performs the commands below a heading, in one shell.
async fn section(project: &Project, heading: &str) -> Result<String> {
    let blocks = pages::blocks(PAGE)?.into_iter().filter(|block| block.section == heading);
    let commands: Vec<_> = blocks.map(|block| block.text).collect();
    ensure!(!commands.is_empty(), "{PAGE} shows no commands for {heading:?}");
    project.shell(&commands.join("\n")).await
}

async fn other_settings(project: &Project) -> Result<()> {
    section(project, "Other settings with Compose").await?;
    project.healthy(&["backend"]).await?;
    let doctor = project.exec("backend", &["backend", "doctor", "--details"]).await?;
    let is_it = |line: &str| line.contains("worker.parallelism") && line.contains("128");
    ensure!(doctor.lines().any(is_it), "the backend does not have the setting of the page: {doctor}");
    Ok(())
}

async fn new_proof(project: &Project) -> Result<()> {
    // The images of this repository have no `cat`.
    let filter = project.container("filter").await?.id;
    let read = ["run", "--rm", "--volumes-from", &filter, DEBIAN_IMAGE, "cat", "/run/edge/proof"];
    let old = project.docker().run(&read).await?;
    section(project, "Changing the proof with Compose").await?;
    let new = project.docker().run(&read).await?;
    ensure!(new.split_whitespace().count() == 1, "the file does not contain one proof");
    ensure!(new.trim() != old.trim(), "the proof is still the old one");
    Ok(())
}

async fn console(project: &Project) -> Result<String> {
    let creates = |block: &pages::Block| block.text.contains(">> console-credentials");
    let block = pages::blocks(PAGE)?.into_iter().find(creates);
    let printed = project.shell(&block.context("the page creates no credentials")?.text).await?;
    let token = printed.trim();
    let entry = fs::read_to_string(project.folder.join("console-credentials"))?;
    let entry = entry.trim();
    set(project, &format!("COMPOSE_FILE=docker-compose.yml:deploy/compose/console.yml\nCONSOLE_CREDENTIALS={entry}"))?;
    replace_backend(project).await?;
    let address = project.shown(PAGE, "docker compose port backend 9091").await?;
    let page = || client().get(format!("http://{}", address.trim()));
    ensure!(page().send().await?.status() == StatusCode::UNAUTHORIZED, "the console lets a stranger in");
    let page = page().basic_auth("ada", Some(token)).send().await?.error_for_status()?.text().await?;
    ensure!(page.contains("Overview"), "this is not the console: {page}");
    Ok(String::new())
}

async fn monitoring(project: &Project) -> Result<String> {
    let port = free_port()?;
    set(
        project,
        &format!(
            "COMPOSE_FILE=docker-compose.yml:deploy/compose/console.yml:deploy/compose/monitoring.yml
GRAFANA_PASSWORD=of-this-test
GRAFANA_PORT={}
PROMETHEUS_PORT={port}",
            free_port()?
        ),
    )?;
    // The project's copy has the modes of a clone with the umask 027.
    project.shell("chmod -R go+rX deploy/monitoring").await?;
    project.shown(PAGE, "docker compose up -d --no-deps prometheus").await?;
    project.healthy(&["prometheus"]).await?;
    watches(port).await?;

    let grafana = "docker compose up -d --no-deps grafana";
    let services = project.compose(&["config"]).await?;
    let image = services.lines().find_map(|line| line.trim().strip_prefix("image: grafana/"));
    let image = format!("grafana/{}", image.context("the Compose files have no Grafana")?);
    if project.docker().run(&["image", "inspect", &image]).await.is_err() {
        project.leave_out(PAGE, grafana)?;
        return Ok(format!("without Grafana, since there is no {image}"));
    }
    project.shown(PAGE, grafana).await?;
    project.healthy(&["grafana"]).await?;
    project.compose(&["rm", "--stop", "--force", "grafana"]).await?;
    Ok(String::new())
}

/// Waits until Prometheus has scraped Envoy and the backend, and evaluated every alert.
async fn watches(port: u16) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let targets = ask(port, "targets").await?;
        let up = |job: &str| {
            let targets = targets["activeTargets"].as_array().into_iter().flatten();
            targets.filter(|target| target["labels"]["job"] == job).any(|target| target["health"] == "up")
        };
        let groups = ask(port, "rules").await?;
        let groups = groups["groups"].as_array().into_iter().flatten();
        let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        let are_well = !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok");
        if up("envoy") && up("backend") && are_well {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("Prometheus does not watch the stack: {targets}, {rules:?}");
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn ask(port: u16, what: &str) -> Result<Value> {
    let url = format!("http://127.0.0.1:{port}/api/v1/{what}");
    let mut answer: Value = client().get(url).send().await?.error_for_status()?.json().await?;
    Ok(answer["data"].take())
}
