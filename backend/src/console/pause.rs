//! Pauses and resumes a feature.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Form,
    extract::{State, rejection::FormRejection},
    http::StatusCode,
    response::Redirect,
};
use envelope::Feature;
use serde::Deserialize;

use super::{Context, access::Visitor, answer::Failure};

/// How long to wait until the backends have confirmed a pause.
const PATIENCE: Duration = Duration::from_secs(3);

/// The form of both actions.
#[derive(Deserialize)]
pub(super) struct Chosen {
    feature: String,
}

pub(super) async fn pause(
    State(context): State<Arc<Context>>,
    Extension(visitor): Extension<Visitor>,
    form: Result<Form<Chosen>, FormRejection>,
) -> Result<Redirect, Failure> {
    let feature = feature(&form?.0)?;
    let version = context.inbox.pause(feature).await?;
    tracing::info!(who = visitor.name, %feature, "feature paused in the console");
    // If some do not confirm in time, the overview says so.
    context.inbox.wait_for_confirmations(version, PATIENCE).await?;
    Ok(done(&context))
}

pub(super) async fn resume(
    State(context): State<Arc<Context>>,
    Extension(visitor): Extension<Visitor>,
    form: Result<Form<Chosen>, FormRejection>,
) -> Result<Redirect, Failure> {
    let feature = feature(&form?.0)?;
    context.inbox.resume(feature).await?;
    tracing::info!(who = visitor.name, %feature, "feature resumed in the console");
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
