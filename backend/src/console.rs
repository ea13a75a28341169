//! The console: web pages for operators, on a listener of their own, and the same data as JSON.
//!
//! Nothing of the core knows it: it reads what [`Metrics`] and the [`Inbox`] show, and changes
//! something only through the `Inbox`. If `console.listen` is empty, none of this runs.
//!
//! [`guard`] stands before every page and decides with [`access`] who may do what. A page is a view,
//! which is also served as JSON, and a template in `backend/templates`. Pages work without a script;
//! with one, [`live`] makes them show changes by themselves.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Config, inbox::Inbox, partner_api::PartnerApi, telemetry::Metrics};

mod access;
mod answer;
mod assets;
mod chart;
mod dead_letters;
mod edge;
mod events;
mod form;
mod guard;
mod health;
mod job;
mod listener;
mod live;
mod overview;
mod pause;
mod quarantine;
mod rates;
mod stories;

use job::Jobs;
use listener::Limited;
use rates::Rates;

/// What the pages use.
struct Context {
    /// The configuration in effect.
    config: watch::Receiver<Arc<Config>>,
    inbox: Inbox,
    api: PartnerApi,
    metrics: Arc<Metrics>,
    rates: Mutex<Rates>,
    health: health::Latest,
    readmissions: Jobs,
    replays: Jobs,
    /// Counts the changes that pages should show.
    changes: watch::Sender<u64>,
    /// Limits how many requests are answered at once.
    permits: Arc<Semaphore>,
    /// Limits how many pages are kept up to date at once.
    live_pages: Arc<Semaphore>,
    /// What a backend that stops waits for.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the pages say about this backend.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many requests are answered at once. More are answered 503.
const MAX_REQUESTS: usize = 32;
/// How many open pages are kept up to date. More have to be reloaded by hand.
const MAX_LIVE_PAGES: usize = 64;

/// Serves the console on `listener` in `tasks` until `stop` is cancelled.
///
/// # Errors
/// If the listener has no address.
pub(crate) fn start(
    listener: TcpListener,
    config: watch::Receiver<Arc<Config>>,
    inbox: Inbox,
    api: PartnerApi,
    metrics: Arc<Metrics>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<()> {
    tracing::info!(console = %listener.local_addr()?, "the console is on");
    let context = Arc::new(Context {
        config,
        inbox,
        api,
        metrics,
        rates: Mutex::new(Rates::new()),
        health: health::Latest::default(),
        readmissions: Jobs::new("readmission", "/quarantine"),
        replays: Jobs::new("replay", "/dead-letters"),
        changes: watch::Sender::default(),
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
        live_pages: Arc::new(Semaphore::new(MAX_LIVE_PAGES)),
        tasks: tasks.clone(),
        stop: stop.clone(),
    });
    tasks.spawn(rates::sample(Arc::clone(&context)));
    let stopped = stop.clone().cancelled_owned();
    // axum retries failed accepts, so serving never returns an error.
    tasks.spawn(async move {
        _ = axum::serve(Limited::new(listener), routes(context)).with_graceful_shutdown(stopped).await;
    });
    Ok(())
}

impl Context {
    /// Returns the configuration in effect.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Makes the open pages show a change.
    fn has_changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

fn routes(context: Arc<Context>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/api/v1/overview", get(overview::show))
        .route("/events", get(events::show))
        .route(access::SEARCHES[0], post(events::search))
        .route(access::SEARCHES[1], post(stories::ask_api))
        .route("/api/v1/events", get(events::show))
        .route("/event", get(stories::event))
        .route("/api/v1/event", get(stories::event))
        .route("/case/{case}", get(stories::case))
        .route("/api/v1/cases/{case}", get(stories::case))
        .route("/dead-letters", get(dead_letters::show))
        .route("/dead-letters/replay", post(dead_letters::replay))
        .route("/dead-letters/cancel", post(dead_letters::cancel))
        .route("/api/v1/dead-letters", get(dead_letters::show))
        .route("/quarantine", get(quarantine::show))
        .route("/quarantine/readmit", post(quarantine::readmit))
        .route("/quarantine/cancel", post(quarantine::cancel))
        .route("/api/v1/quarantine", get(quarantine::show))
        .route("/health", get(health::show))
        .route("/api/v1/health", get(health::show))
        .route("/pause", post(pause::pause))
        .route("/resume", post(pause::resume))
        .route("/live", get(live::changes))
        .route("/assets/{name}", get(assets::asset))
        .fallback(answer::not_found)
        .layer(axum::extract::DefaultBodyLimit::max(guard::MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&context), guard::guard))
        .with_state(context)
}
