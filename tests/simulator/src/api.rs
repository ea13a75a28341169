//! The Partner API, served from the simulated cases.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use envelope::Feature;
use serde_json::{Value, json};

use super::world::World;

/// The routes `GET /cases`, `GET` and `DELETE /cases/{id}`, and `GET /cases/{id}/{result}` for the
/// three results.
pub fn routes(world: Arc<World>) -> Router {
    Router::new()
        .route("/cases", get(list))
        .route("/cases/{id}", get(one).delete(delete))
        .route("/cases/{id}/{result}", get(result))
        .layer(middleware::from_fn_with_state(Arc::clone(&world), intercept))
        .with_state(world)
}

/// The headers with which a backend would tell TruEnroll of its traces.
const TRACE_HEADERS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Rejects trace headers, checks the API key, and injects the faults that a test asked for.
async fn intercept(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    let fault = world.next_fault();
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.delay).await;
    }
    if TRACE_HEADERS.iter().any(|name| request.headers().contains_key(*name)) {
        return error(StatusCode::BAD_REQUEST);
    }
    if !has_key(request.headers(), &world.api_key()) {
        return error(StatusCode::UNAUTHORIZED);
    }
    if world.is_unsuccessful() {
        let data = json!({ "extraction": [{ "status": "completed" }] });
        return Json(json!({ "success": false, "message": "Something failed", "data": data })).into_response();
    }
    match fault.filter(|fault| fault.status != 200) {
        None => next.run(request).await,
        Some(fault) => {
            let mut response = error(StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
            if let Some(seconds) = fault.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

async fn list(State(world): State<Arc<World>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let number = |name, default| query.get(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let limit = number("limit", 20_usize).min(100);
    let skip = number("skip", 0);
    let wanted = query.get("externalId").map(String::as_str);
    wrapped(world.list(wanted, skip, limit).iter().map(|case| case.describe()).collect())
}

async fn one(State(world): State<Arc<World>>, Path(id): Path<String>) -> Response {
    world.case(&id).map_or_else(|| error(StatusCode::NOT_FOUND), |case| wrapped(case.describe()))
}

async fn delete(State(world): State<Arc<World>>, Path(id): Path<String>) -> StatusCode {
    world.delete(&id);
    StatusCode::NO_CONTENT
}

async fn result(State(world): State<Arc<World>>, Path((id, name)): Path<(String, String)>) -> Response {
    // Classification has no result of its own.
    let feature = Feature::parse(&name).filter(|&feature| feature != Feature::Classification);
    let (Some(feature), Some(case)) = (feature, world.case(&id)) else { return error(StatusCode::NOT_FOUND) };
    if world.rejects_unfinished() && !case.has_finished(feature) {
        return error(StatusCode::BAD_REQUEST);
    }
    case.result(feature, &world.page()).map_or_else(|| error(StatusCode::BAD_REQUEST), wrapped)
}

/// Whether a request shows the API key.
pub(super) fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header("x-api-key") == key || header("authorization").strip_prefix("Bearer ") == Some(key)
}

fn wrapped(data: Value) -> Response {
    Json(json!({ "success": true, "message": "OK", "data": data })).into_response()
}

fn error(status: StatusCode) -> Response {
    let message = status.canonical_reason().unwrap_or("Error");
    (status, Json(json!({ "statusCode": status.as_u16(), "message": message }))).into_response()
}
