//! Starts everything, and stops it in order.

use std::{io, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use axum::Router;
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
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
    let routes = ingest::routes(&config.ingest, inbox.for_ingest(), Arc::clone(&metrics));
    tracing::info!(ingest = %ingest.local_addr()?, admin = %admin.local_addr()?, "ready for events");
    let mut ingest_ended = serve_apart(ingest, routes, shutdown.clone()).context("cannot start the ingest's thread")?;
    let routes = admin::routes(admin::Context { inbox, metrics, shutdown: shutdown.clone() });
    servers.spawn(serve(admin, routes, stop_admin.clone()));
    servers.close();

    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        _ = &mut ingest_ended => anyhow::bail!("the ingest's thread has ended"),
    }
    tracing::info!(grace = ?config.shutdown.grace, "stopping: no new events, finishing those in progress");
    if timeout(config.shutdown.grace, workers.wait()).await.is_err() {
        tracing::warn!("work in progress did not finish in time; it will be done again after the next start");
    }
    stop_admin.cancel();
    // Idle connections would keep the servers up.
    _ = timeout(CLOSING, async { tokio::join!(servers.wait(), ingest_ended) }).await;
    Ok(())
}

/// How long connections may take to close once everything else is done.
const CLOSING: Duration = Duration::from_secs(1);

/// Serves in a thread with a runtime of its own, until `stop` is cancelled; what is returned then resolves. A handler that
/// keeps its thread from other work cannot hold up an answer; and what requests ask of Redis at the same time goes out
/// together, since the connection to it gets its turn after them.
fn serve_apart(listener: TcpListener, routes: Router, stop: CancellationToken) -> io::Result<oneshot::Receiver<()>> {
    let (ended, has_ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _runtime = runtime.enter();
        TcpListener::from_std(listener.into_std()?)?
    };
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        runtime.block_on(serve(listener, routes, stop));
        // Nobody waits any more where the process is about to end.
        _ = ended.send(());
    })?;
    Ok(has_ended)
}

async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    // The listener is ours and the routes cannot fail, so there is no error to come.
    _ = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await;
}
