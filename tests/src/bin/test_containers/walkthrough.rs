//! The section "Production, step by step" of docs/OPERATIONS.md, from its first command to its last.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use harness::containers::{Production, Project, Session, outside::Secrets, production::SERVICES};

use page::Page;

mod own_handler;
mod page;
mod restore;

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn run(session: &mut Session) -> Result<()> {
    let mut page = Page::read()?;
    let project = session.project("walkthrough").await?;
    session.name(&own_handler::IMAGES).await?;
    let steps = &mut session.steps;

    let production = first_settings(project, &page.next("First settings")?).await?;
    let Production { project, outside } = &production;
    let start = page.next("Start")?;
    steps
        .step("walkthrough: build, start, and accept the first events", async {
            project.shell(&start).await?;
            project.healthy(&SERVICES).await?;
            outside.planned(project, "first", async { Ok(()) }).await
        })
        .await?;
    let check = page.next("Check")?;
    steps.step("walkthrough: it works", async { project.shell(&check).await.map(|_| "") }).await?;
    let https = page.next("HTTPS")?;
    steps.step("walkthrough: Envoy terminates TLS", terminates_tls(project, &https)).await?;

    let publish = page.next("A changed policy")?;
    let before = production.build().await?;
    let policy = async {
        project.edit("envoy/policy.toml", "unknown_events = \"reject\"", "unknown_events = \"quarantine\"")?;
        project.shell(&publish).await?;
        let code = project.container("filter").await?.exit_code(PATIENCE).await?;
        ensure!(code == 0, "the publication ended with {code}");
        Ok(())
    };
    steps.step("walkthrough: a changed policy", outside.planned(project, "policy", policy)).await?;
    ensure!(production.build().await? != before, "Envoy still serves {before}");

    let scale = page.next("More backends")?;
    let three = async {
        project.shell(&scale).await?;
        project.healthy(&["backend"]).await?;
        let backends = project.containers("backend").await?.len();
        ensure!(backends == 3, "there are {backends} backends");
        Ok(())
    };
    steps.step("walkthrough: more backends", outside.planned(project, "more", three)).await?;

    restore::run(steps, &production).await?;
    own_handler::run(steps, &production, &page.next("Your own handler")?).await?;
    page.ends()
}

/// Creates the secrets, and fills in `.env`.
async fn first_settings(project: Project, commands: &str) -> Result<Production> {
    let printed = project.shell(commands).await?;
    ensure!(project.folder.join(".env").is_file(), "the commands create no `.env`");
    let [token, sink] = printed.lines().collect::<Vec<_>>()[..] else { bail!("not two secrets: {printed}") };
    let is_token = token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_token, "not a token: {token}");
    Production::configure(project, &Secrets { token: token.to_owned(), sink: sink.to_owned() }).await
}

/// Enables TLS with a certificate for this machine, makes a request, and returns to plain HTTP, which
/// the sender uses.
async fn terminates_tls(project: &Project, commands: &str) -> Result<String> {
    let certificate = format!(
        "mkdir tls
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=edge \
        -addext subjectAltName=IP:{} -keyout tls/key.pem -out tls/certificate.pem
        chmod 644 tls/*.pem",
        project.edge_address.ip()
    );
    project.shell(&certificate).await?;
    let settings = project.folder.join(".env");
    let plain = fs::read(&settings)?;
    project.shell(commands).await?;
    project.healthy(&["envoy"]).await?;
    let url = format!("https://{}/webhooks/truenroll", project.edge_address);
    let get = format!("curl --silent --max-time 10 --cacert tls/certificate.pem {url}");
    let answer = project.shell(&get).await.context("no answer over TLS")?;
    ensure!(answer.contains("not_found"), "a request without the token is answered {answer}");
    fs::write(&settings, plain)?;
    project.compose(&["up", "-d", "--no-deps", "envoy"]).await?;
    project.healthy(&["envoy"]).await?;
    Ok(String::new())
}
