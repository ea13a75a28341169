//! Starts the backend, and stops it in order: first new attempts, then the attempts in progress,
//! and last the ingest, so that events are stored until the process exits.

use std::{io, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use axum::Router;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin,
    config::Config,
    console,
    handler::Handlers,
    inbox::Inbox,
    ingest,
    partner_api::PartnerApi,
    proofs::Proofs,
    reconciler::Reconciler,
    reload::{Live, Reload},
    sink::Sink,
    telemetry::Metrics,
    traces,
    worker::{self, Work},
};

/// How long to wait for leases to be released, and for connections to close, once everything else
/// has stopped.
const CLOSING: Duration = Duration::from_secs(1);

/// The listeners of a backend.
pub struct Listeners {
    /// For events, from Envoy.
    pub ingest: TcpListener,
    /// For liveness, readiness and metrics.
    pub admin: TcpListener,
    /// For the console, if there is one.
    pub console: Option<TcpListener>,
}

/// Receives events, stores them in `inbox` and handles them until `shutdown` is cancelled. `extend`
/// returns the handlers to use, given the standard ones.
///
/// # Errors
/// If the backend cannot start, or the thread of the ingest stops unexpectedly.
pub async fn run(
    config: Config,
    inbox: Inbox,
    extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers,
    listeners: Listeners,
    reload: Option<Reload>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut running = Running::start(&config, inbox, extend, listeners, reload, &shutdown)?;
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        _ = &mut running.ingest_stopped => anyhow::bail!("the thread of the ingest has stopped"),
    }
    running.stop(&config).await;
    Ok(())
}

/// The parts of a running backend, to stop them one after the other.
struct Running {
    work: Arc<Work>,
    /// The reconciler and the tasks that own partitions. The shutdown token stops them.
    workers: TaskTracker,
    stop_ingest: CancellationToken,
    /// Resolves when the ingest has stopped.
    ingest_stopped: oneshot::Receiver<()>,
    /// The admin server, the console, reloads, and the watch over the Redis servers, which the ingest
    /// needs until it has stopped.
    background: TaskTracker,
    stop_background: CancellationToken,
}

impl Running {
    fn start(
        config: &Config,
        inbox: Inbox,
        extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers,
        listeners: Listeners,
        reload: Option<Reload>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let Listeners { ingest, admin, console } = listeners;
        let api = PartnerApi::new(&config.partner_api).context("cannot create the client of the Partner API")?;
        let metrics = Arc::new(Metrics::default());
        let api = api.counting(&metrics);
        traces::start(&config.telemetry, &metrics)?;
        let handlers = extend(Handlers::standard(&api, &config.handler), &api);
        let sink = Sink::new(&config.sink).context("cannot create the sink")?;

        let background = TaskTracker::new();
        let stop_background = CancellationToken::new();
        background.spawn(inbox.clone().watch_servers(stop_background.clone()));

        let workers = TaskTracker::new();
        let reconciler = Reconciler::new(inbox.clone(), api.clone(), &config.reconciler, Arc::clone(&metrics));
        workers.spawn(reconciler.run(shutdown.clone()));
        let work = Arc::new(Work::new(&config.worker, handlers, sink, Arc::clone(&metrics)));
        worker::start(&inbox, &work, &workers, shutdown);
        workers.close();

        let stop_ingest = CancellationToken::new();
        #[cfg(feature = "mutations")]
        let stop_ingest = crate::mutation::stop_ingest(stop_ingest, shutdown);
        let proofs = Arc::new(Proofs::new(&config.ingest.proof));
        let routes = ingest::routes(&config.ingest, inbox.for_ingest(), Arc::clone(&metrics), Arc::clone(&proofs));
        tracing::info!(ingest = %ingest.local_addr()?, admin = %admin.local_addr()?, "ready for events");
        let ingest_stopped = serve_on_own_thread(ingest, routes, stop_ingest.clone())
            .context("cannot start the thread of the ingest")?;
        let config = watch::Sender::new(Arc::new(config.clone()));
        if let Some(console) = console {
            let config = config.subscribe();
            let (inbox, api, metrics) = (inbox.clone(), api.clone(), Arc::clone(&metrics));
            console::start(console, config, inbox, api, metrics, &background, &stop_background)?;
        }
        if let Some(reload) = reload {
            let (proofs, work, metrics) = (Arc::clone(&proofs), Arc::clone(&work), Arc::clone(&metrics));
            let reloads = reload.run(Live { config, proofs, api: api.clone(), work, metrics });
            background.spawn(stop_background.clone().run_until_cancelled_owned(reloads));
        }
        let dead_letter_counts = Arc::default();
        let context = admin::Context { inbox, api, metrics, dead_letter_counts, proofs, shutdown: shutdown.clone() };
        let routes = admin::routes(context);
        background.spawn(serve(admin, routes, stop_background.clone()));
        background.close();
        Ok(Self { work, workers, stop_ingest, ingest_stopped, background, stop_background })
    }

    /// Stops everything, after the shutdown token was cancelled.
    async fn stop(self, config: &Config) {
        let grace = config.shutdown.grace;
        tracing::info!(?grace, "stopping: attempts in progress finish, and events are still stored");
        if timeout(grace, self.workers.wait()).await.is_err() {
            tracing::warn!("grace period over: unfinished attempts are cancelled, and the next backend repeats them");
            self.work.abandon();
            _ = timeout(CLOSING, self.workers.wait()).await;
        }
        self.stop_ingest.cancel();
        // Events in progress may take the store timeout. The limit is for connections that stay
        // open without a request.
        _ = timeout(config.ingest.store_timeout + CLOSING, self.ingest_stopped).await;
        self.stop_background.cancel();
        _ = timeout(CLOSING, self.background.wait()).await;
    }
}

/// Serves on a thread with a runtime of its own until `stop` is cancelled. The returned receiver
/// resolves when the thread has stopped.
///
/// A handler that blocks its thread cannot delay an answer. Also, requests that arrive at the same
/// time send their commands to Redis together: the connection to Redis is polled after them.
fn serve_on_own_thread(
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    let (stopped, has_stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _runtime = runtime.enter();
        TcpListener::from_std(listener.into_std()?)?
    };
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        runtime.block_on(serve(listener, routes, stop));
        // The receiver is gone if the process is about to exit.
        _ = stopped.send(());
    })?;
    Ok(has_stopped)
}

async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    // axum retries failed accepts, so serving never returns an error.
    _ = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await;
}
