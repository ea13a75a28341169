//! Starts everything, and stops it in order.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin,
    config::Config,
    handler::Handlers,
    inbox::Inbox,
    ingest,
    partner_api::PartnerApi,
    reconciler::Reconciler,
    sink::Sink,
    telemetry::Metrics,
    worker::{self, Work},
};

/// Takes events on `ingest` and works on them until `shutdown` is cancelled, with the handlers that `extend` makes of the
/// standard ones.
///
/// # Errors
/// Where it cannot start. Once it runs it stops only when it is told to.
pub async fn run(
    config: Config,
    extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers,
    ingest: TcpListener,
    admin: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let api = PartnerApi::new(&config.partner_api).context("cannot set up the client of the Partner API")?;
    let handlers = extend(Handlers::standard(&api, &config.handler), &api);
    let sink = Sink::new(&config.sink).context("cannot set up the sink")?;
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let metrics = Arc::new(Metrics::default());

    let workers = TaskTracker::new();
    workers.spawn(inbox.clone().watch_servers(shutdown.clone()));
    let reconciler = Reconciler::new(inbox.clone(), api, &config.reconciler, Arc::clone(&metrics));
    workers.spawn(reconciler.run(shutdown.clone()));
    let work = Work::new(&config.worker, handlers, sink, Arc::clone(&metrics));
    worker::start(&inbox, &Arc::new(work), &workers, &shutdown);
    workers.close();

    let servers = TaskTracker::new();
    let stop_admin = CancellationToken::new();
    let routes = ingest::routes(&config.ingest, inbox.clone(), Arc::clone(&metrics));
    tracing::info!(ingest = %ingest.local_addr()?, admin = %admin.local_addr()?, "ready for events");
    servers.spawn(serve(ingest, routes, shutdown.clone()));
    let routes = admin::routes(admin::Context { inbox, metrics, shutdown: shutdown.clone() });
    servers.spawn(serve(admin, routes, stop_admin.clone()));
    servers.close();

    shutdown.cancelled().await;
    tracing::info!(grace = ?config.shutdown.grace, "stopping: no new events, finishing those in progress");
    if timeout(config.shutdown.grace, workers.wait()).await.is_err() {
        tracing::warn!("work in progress did not finish in time; it will be done again after the next start");
    }
    stop_admin.cancel();
    // Idle connections would keep the servers up.
    _ = timeout(CLOSING, servers.wait()).await;
    Ok(())
}

/// How long connections may take to close once everything else is done.
const CLOSING: Duration = Duration::from_secs(1);

async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    // The listener is ours and the routes cannot fail, so there is no error to come.
    _ = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await;
}
