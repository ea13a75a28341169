//! `backend serve`.

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{config::Config, handler::Handlers, partner_api::PartnerApi, server};

/// Runs the backend until SIGTERM or SIGINT.
pub(super) async fn run(config: Config, extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    raise_limit_of_open_files();
    let ingest = listen("ingest.listen", &config.ingest.listen).await?;
    let admin = listen("admin.listen", &config.admin.listen).await?;
    server::run(config, extend, ingest, admin, shutdown).await
}

async fn listen(setting: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (`{setting}`)"))
}

/// Raises the limit of open files as far as the system allows. Each connection takes one, and the
/// limit that container engines set by default may be as low as 1,024.
fn raise_limit_of_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}
