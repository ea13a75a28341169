//! The example `own-handler`, copied out of the repository and built there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envelope::{Feature, Stage};
use harness::{
    containers::{Production, Steps},
    simulator::sender::Answer,
};
use tokio::time::{Instant, sleep};

/// The images that the page names, for all projects of an engine.
pub(super) const IMAGES: [&str; 2] = ["truenroll-edge-backend-build", "truenroll-edge-backend"];
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(steps: &mut Steps, production: &Production, commands: &str) -> Result<()> {
    let Production { project, .. } = production;
    let build = async {
        project.shell(commands).await?;
        project.healthy(&["backend"]).await?;
        let title = r#"{{index .Config.Labels "org.opencontainers.image.title"}}"#;
        project.container("backend").await?.inspect(title).await
    };
    let title = steps.step("walkthrough: a backend with its own handler is built and started", build).await?;
    ensure!(title == "own-handler", "the backend's image is {title:?}");
    steps.step("walkthrough: the handler handles an event", handled(production)).await.map(drop)
}

/// The example sends the application the number of credits in place of the extraction.
async fn handled(production: &Production) -> Result<&'static str> {
    let outside = &production.outside;
    let world = &outside.simulator.world;
    world.upload("own", None, &[Feature::Extraction]);
    let event = world.finish("own", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let event = event.context("the stage finishes")?;
    let answer = outside.sender.send(&event).await;
    ensure!(answer == Answer::Accepted(event.key.clone()), "{answer:?}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let deliveries = outside.simulator.application.deliveries();
        if let Some(delivery) = deliveries.iter().find(|delivery| delivery.key == event.key) {
            let result = &delivery.body["outcome"]["result"];
            ensure!(result.get("credits").is_some_and(|credits| credits.is_f64()), "{result}");
            return Ok("");
        }
        ensure!(Instant::now() < deadline, "the event is not handled");
        sleep(Duration::from_millis(100)).await;
    }
}
