//! Tells a running simulator from outside which stages have finished, so that its Partner API
//! agrees with an event that is sent by hand.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use envelope::EventName;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::{api, send::Subject, world::World};

/// The path that reports of finished stages are posted to.
const PATH: &str = "/simulator/stages";

/// The route for reports of finished stages.
pub fn routes(world: Arc<World>) -> Router {
    Router::new().route(PATH, post(receive)).with_state(world)
}

/// Reports to the simulator at `url` that the stage of an event has finished.
///
/// # Errors
/// If it does not answer, or demands another API key.
pub async fn report_finished(client: &Client, url: &str, api_key: &str, subject: &Subject) -> Result<()> {
    let report = json!({
        "eventName": subject.name.as_str(),
        "caseId": subject.case,
        "externalId": subject.external_id,
        "occurredAt": subject.occurred_at,
    });
    let url = format!("{}{PATH}", url.trim_end_matches('/'));
    let answer = client.post(&url).header("x-api-key", api_key).json(&report).send().await;
    answer
        .and_then(Response::error_for_status)
        .map(drop)
        .with_context(|| format!("cannot tell the simulator that the stage has finished ({url})"))
}

async fn receive(State(world): State<Arc<World>>, headers: HeaderMap, Json(report): Json<Value>) -> StatusCode {
    if !api::has_key(&headers, &world.api_key()) {
        return StatusCode::UNAUTHORIZED;
    }
    let text = |name: &str| report.get(name).and_then(Value::as_str);
    let (Some(name), Some(case), Some(at)) =
        (text("eventName").and_then(EventName::parse), text("caseId"), text("occurredAt"))
    else {
        return StatusCode::UNPROCESSABLE_ENTITY;
    };
    world.finish_or_upload(case, text("externalId"), name, at);
    StatusCode::NO_CONTENT
}
