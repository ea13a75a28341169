//! Starts everything, and stops it in order: first new attempts, then those that run, and last the ingest, so that events are
//! stored until the process ends.

use std::{io, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use axum::Router;
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin,
    config::{Config, SinkKind},
    handler::Handlers,
    inbox::Inbox,
    ingest,
    partner_api::PartnerApi,
    proofs::Proofs,
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
    if config.sink.kind == SinkKind::Http && config.sink.secret.reveal().is_empty() {
        tracing::warn!(
            "`sink.secret` is empty, so outcomes are sent unsigned and the application cannot tell who sends them: set \
             `sink.secret` (or `sink.secret_file`) to `whsec_` and 24 to 64 random bytes in base64"
        );
    }
    let sink = Sink::new(&config.sink).context("cannot set up the sink")?;
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let metrics = Arc::new(Metrics::default());

    // What has to go on until nothing is stored any more.
    let (background, last) = (TaskTracker::new(), CancellationToken::new());
    background.spawn(inbox.clone().watch_servers(last.clone()));
    let workers = TaskTracker::new();
    let reconciler = Reconciler::new(inbox.clone(), api, &config.reconciler, Arc::clone(&metrics));
    workers.spawn(reconciler.run(shutdown.clone()));
    let work = Arc::new(Work::new(&config.worker, handlers, sink, Arc::clone(&metrics)));
    worker::start(&inbox, &work, &workers, &shutdown);
    workers.close();

    let (stop_ingest, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    #[cfg(feature = "mutations")]
    let stop_ingest = crate::mutation::stop_ingest(stop_ingest, &shutdown);
    let proofs = Arc::new(Proofs::new(&config.ingest.proof));
    let routes = ingest::routes(&config.ingest, inbox.for_ingest(), Arc::clone(&metrics), Arc::clone(&proofs));
    tracing::info!(ingest = %ingest.local_addr()?, admin = %admin.local_addr()?, "ready for events");
    let mut ingest_ended =
        serve_apart(ingest, routes, stop_ingest.clone()).context("cannot start the ingest's thread")?;
    let routes = admin::routes(admin::Context { inbox, metrics, proofs, shutdown: shutdown.clone() });
    background.spawn(serve(admin, routes, stop_admin.clone()));
    background.close();

    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        _ = &mut ingest_ended => anyhow::bail!("the ingest's thread has ended"),
    }
    tracing::info!(grace = ?config.shutdown.grace, "stopping: finishing the attempts in progress, still storing events");
    if timeout(config.shutdown.grace, workers.wait()).await.is_err() {
        tracing::warn!("the grace period ends some attempts; the next backend repeats them");
        work.abandon();
        _ = timeout(CLOSING, workers.wait()).await;
    }
    stop_ingest.cancel();
    // An event may take that long to be stored. Idle connections would keep the server up longer.
    _ = timeout(config.ingest.store_timeout + CLOSING, ingest_ended).await;
    last.cancel();
    stop_admin.cancel();
    _ = timeout(CLOSING, background.wait()).await;
    Ok(())
}

/// How long leases may take to be given back, and connections to close, once everything else is done.
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
