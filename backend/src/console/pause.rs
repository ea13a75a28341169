//! Pauses and resumes a feature.

use std::time::Duration;

use axum::{http::StatusCode, response::Redirect};
use envelope::Feature;
use serde::Deserialize;

use super::{
    Context,
    answer::{Asked, Failure, Sent},
};

/// How long to wait until the backends have confirmed a pause.
const PATIENCE: Duration = Duration::from_secs(3);

/// The form of both actions.
#[derive(Deserialize)]
pub(super) struct Chosen {
    feature: String,
}

pub(super) async fn pause(Asked { context, frame }: Asked, Sent(chosen): Sent<Chosen>) -> Result<Redirect, Failure> {
    let feature = feature(&chosen)?;
    let version = context.inbox.pause(feature).await?;
    tracing::info!(who = frame.visitor.name, %feature, "feature paused in the console");
    // If some do not confirm in time, the overview says so.
    context.inbox.wait_for_confirmations(version, PATIENCE).await?;
    Ok(done(&context))
}

pub(super) async fn resume(Asked { context, frame }: Asked, Sent(chosen): Sent<Chosen>) -> Result<Redirect, Failure> {
    let feature = feature(&chosen)?;
    context.inbox.resume(feature).await?;
    tracing::info!(who = frame.visitor.name, %feature, "feature resumed in the console");
    Ok(done(&context))
}

fn feature(chosen: &Chosen) -> Result<Feature, Failure> {
    let unknown = || Failure::new(StatusCode::BAD_REQUEST, "There is no such feature", "Choose one on the overview.");
    Feature::parse(&chosen.feature).ok_or_else(unknown)
}

fn done(context: &Context) -> Redirect {
    context.has_changed();
    Redirect::to("/")
}
