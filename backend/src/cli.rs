//! The command line: `backend serve` runs the backend, the other commands look after what it holds.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;

use clap::{Parser, Subcommand};
use envelope::Feature;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError},
    handler::Handlers,
    http_client,
    inbox::{self, Inbox},
    partner_api::PartnerApi,
    reconciler::{Reconciler, Round, STORE_LOST},
    server, telemetry,
};

mod dead;
mod pause;
mod quarantine;

/// The backend of truenroll-edge.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A file of settings (TOML); what it does not name keeps its default. The environment goes before the file.
    #[arg(long, global = true, env = "BACKEND_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Take events and work on them until told to stop (SIGTERM or SIGINT).
    Serve,
    /// Read the configuration, say what is wrong with it, and stop.
    Check,
    /// List the events that are not documented and were put in quarantine.
    Quarantine,
    /// Put the events in quarantine that this version knows through the same path as all others.
    Readmit,
    /// List the events that could not be handled, with their errors.
    Dead {
        #[command(flatten)]
        filter: dead::Filter,
    },
    /// Handle dead letters again, behind their lanes' other events.
    Replay {
        #[command(flatten)]
        filter: dead::Filter,
        #[command(flatten)]
        how: dead::Pace,
    },
    /// Look at all cases now for events that never arrived, and backfill them.
    Reconcile {
        /// Backfill what ended at this time or later (RFC 3339, by the uploads' own times), even if a first round has taken it
        /// as already received: after the store was lost.
        #[arg(long, value_parser = dead::time)]
        since: Option<SystemTime>,
    },
    /// Let the events of a feature wait, in every backend. They are stored as ever. Returns once no backend begins a new
    /// attempt of that feature; attempts in progress finish.
    Pause {
        /// classification, extraction, forensics or translation
        #[arg(value_parser = feature)]
        feature: Feature,
    },
    /// Work on a feature's events again.
    Resume {
        /// classification, extraction, forensics or translation
        #[arg(value_parser = feature)]
        feature: Feature,
    },
    /// Ask the backend that runs here with the same configuration whether it is ready; for container health checks.
    Ready,
}

/// What sysexits.h calls EX_CONFIG.
const BAD_CONFIGURATION: u8 = 78;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    main_with(|handlers, _| handlers)
}

/// The same, with handlers of your own: `extend` gets those that the product comes with.
#[tokio::main]
pub async fn main_with(extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers) -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            _ = writeln!(io::stderr(), "backend: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let done = match arguments.command {
        Command::Check => Ok(()),
        Command::Ready => ask_ready(&config).await,
        Command::Quarantine => quarantine::list(&config).await,
        Command::Readmit => quarantine::readmit(&config).await,
        Command::Dead { filter } => dead::list(&config, &filter).await,
        Command::Replay { filter, how } => dead::replay(&config, &filter, how).await,
        Command::Reconcile { since } => reconcile(&config, since).await,
        Command::Pause { feature } => pause::pause(&config, feature).await,
        Command::Resume { feature } => pause::resume(&config, feature).await,
        Command::Serve => {
            telemetry::start_logging(&config.log);
            serve(config, extend).await
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "backend: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads and checks the configuration. Only the inbox can say whether a Redis URL is valid.
fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let config = Config::load(file)?;
    if config.redis.urls().all(inbox::is_url) {
        return Ok(config);
    }
    let problem = "is not a URL like redis://[user:password@]host:port/[database] or unix:///path";
    Err(ConfigError::invalid("redis.url", problem))
}

async fn serve(config: Config, extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers) -> anyhow::Result<()> {
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
    let ingest = listen("ingest.listen", &config.ingest.listen).await?;
    let admin = listen("admin.listen", &config.admin.listen).await?;
    server::run(config, extend, ingest, admin, shutdown).await
}

fn feature(name: &str) -> Result<Feature, String> {
    Feature::parse(name).ok_or_else(|| "it must be classification, extraction, forensics or translation".to_owned())
}

async fn reconcile(config: &Config, since: Option<SystemTime>) -> anyhow::Result<()> {
    let inbox = Inbox::connect(&config.redis, config.ingest.store_timeout).await?;
    let (api, metrics) = (PartnerApi::new(&config.partner_api)?, Arc::new(telemetry::Metrics::default()));
    let round = Reconciler::new(inbox, api, &config.reconciler, metrics).round(since).await?;
    let Round { cases, backfilled, within_grace, taken, undated, skipped } = round;
    let mut out = io::stdout();
    writeln!(
        out,
        "looked at {cases} cases: {backfilled} events backfilled, {within_grace} within the grace period, {taken} taken as \
         already received"
    )?;
    if taken > 0 {
        writeln!(out, "{STORE_LOST}")?;
    }
    if undated > 0 {
        writeln!(
            out,
            "{undated} uploads were left out of --since: the Partner API states no updatedAt or createdAt for them"
        )?;
    }
    if skipped > 0 {
        writeln!(out, "{skipped} cases could not be compared: the Partner API does not answer for them as documented")?;
    }
    Ok(())
}

async fn ask_ready(config: &Config) -> anyhow::Result<()> {
    let mut address: SocketAddr = config.admin.listen.parse()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let client = http_client::builder(READY_TIMEOUT).no_proxy().build()?;
    let answer = client.get(format!("http://{address}/readyz")).send().await.context("no answer")?;
    anyhow::ensure!(answer.status().is_success(), "not ready: {}", answer.text().await?.trim());
    Ok(())
}

/// How long the answer may take.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

async fn listen(setting: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}, which `{setting}` names"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_invalid_redis_url_is_named_but_not_shown() {
        for (url, is_valid) in [
            ("redis://user:hunter2@host:6379/1", true),
            ("unix:///run/redis.sock", true),
            ("localhost", false),
            ("http://user:hunter2@host", false),
        ] {
            let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
            writeln!(file, "[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"").unwrap();
            writeln!(file, "[redis]\nurl = \"{url}\"").unwrap();
            let loaded = load(Some(file.path()));
            assert_eq!(loaded.is_ok(), is_valid, "{url}");
            if let Err(error) = loaded {
                let error = error.to_string();
                assert!(error.contains("`redis.url` is not a URL") && !error.contains("hunter2"), "{error}");
            }
        }
    }
}
