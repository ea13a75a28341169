//! The command line: `backend serve` runs the backend, the other commands inspect and change what
//! it has stored.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use envelope::{CaseId, Feature};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, ConfigError},
    events::Filter,
    handler::Handlers,
    inbox,
    partner_api::PartnerApi,
    reload::Reload,
    telemetry,
};

mod dead;
mod doctor;
mod events;
mod forget;
mod output;
mod parse;
mod pause;
mod quarantine;
mod ready;
mod reconcile;
mod serve;
mod show;
mod tail;

/// The backend of truenroll-edge.
#[derive(Parser)]
#[command(version = envelope::version::text(), after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A TOML file with settings. A setting that it omits keeps its default; environment variables
    /// override the file.
    #[arg(long, global = true, env = "BACKEND_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Receive events and handle them until stopped by SIGTERM or SIGINT. SIGHUP makes it read the
    /// configuration again.
    Serve,
    /// Check the configuration and exit. `doctor` also checks everything that it refers to.
    Check,
    /// Check the whole installation: the configuration, Redis, the Partner API, the application,
    /// Envoy, clocks, disks and the work in progress.
    ///
    /// Prints one line per check: pass, warning or failure, what was found, and what to do. Changes
    /// nothing. The exit code is 1 if a check failed.
    Doctor {
        #[command(flatten)]
        options: doctor::Options,
    },
    /// List events, the one that changed last first: what became of them, and what they wait for.
    Events(events::Options),
    /// Tell the story of an event, or of all events of a case.
    Show(show::Options),
    /// Follow what happens to events: completed, dead-lettered, replayed or revived.
    Tail(Selection),
    /// List quarantined events, oldest first, which are not among the documented ones.
    Quarantine(Selection),
    /// Move the quarantined events that this version knows to the inbox.
    Readmit {
        #[command(flatten)]
        filter: Filter,
    },
    /// List dead letters with their errors, oldest first.
    Dead(Selection),
    /// Return dead letters to the inbox, behind the other events of their lanes.
    Replay {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        options: dead::ReplayOptions,
    },
    /// Erase all that is stored about a case, and say what was erased: its dead letters, quarantined
    /// events, history and seen keys.
    ///
    /// If TruEnroll delivers one of its events again after that, it is a new event. Delete the case at
    /// TruEnroll first; otherwise the reconciler backfills its events.
    Forget(forget::Options),
    /// Compare all cases with the events received, and backfill events that never arrived.
    Reconcile {
        /// Only this case.
        #[arg(long)]
        case: Option<CaseId<'static>>,
        /// Also backfill missing events that a first round assumed received, if their stage
        /// finished at this time or later (RFC 3339). The times are those that the Partner API
        /// states for uploads. For use after Redis has lost its data.
        #[arg(long, value_parser = crate::time::parse_rfc3339)]
        since: Option<SystemTime>,
    },
    /// Pause a feature: all backends store its events, but do not handle them.
    ///
    /// Returns once no backend will begin another attempt for the feature. Attempts in progress
    /// finish.
    Pause {
        /// classification, extraction, forensics or translation
        feature: Feature,
    },
    /// Resume a paused feature.
    Resume {
        /// classification, extraction, forensics or translation
        feature: Feature,
    },
    /// Print a script that lets a shell complete these commands and their options.
    ///
    /// For bash: `source <(backend completions bash)`.
    Completions {
        /// bash, elvish, fish, powershell or zsh
        #[arg(value_parser = clap::builder::EnumValueParser::<Shell>::new())]
        shell: Shell,
    },
    /// Ask the backend on this machine whether it is ready. For container health checks.
    ///
    /// Finds the backend by `admin.listen`, so it needs the same configuration.
    Ready,
}

/// Which events to print, and how.
#[derive(Debug, Clone, Args)]
struct Selection {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: output::Output,
}

/// The end of the help.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 not found, 78 wrong setting";
/// The exit code if what was asked for does not exist.
const NOT_FOUND: u8 = 3;
/// The exit code for a configuration that cannot be used: EX_CONFIG of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// Runs the command line with the standard handlers.
pub fn main() -> ExitCode {
    main_with(|handlers, _| handlers)
}

/// Runs the command line with handlers of your own. `extend` is called once, by `backend serve`,
/// with the standard handlers and the client of the Partner API, and returns the handlers to use.
#[tokio::main]
pub async fn main_with(extend: impl FnOnce(Handlers, &PartnerApi) -> Handlers) -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Completions { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "backend", &mut io::stdout());
        return ExitCode::SUCCESS;
    }
    // From here on, SIGHUP does not end `backend serve`.
    let hangups = matches!(arguments.command, Command::Serve).then(|| signal(SignalKind::hangup())).transpose();
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            _ = writeln!(io::stderr(), "backend: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let done = match arguments.command {
        Command::Check | Command::Completions { .. } => Ok(()),
        Command::Doctor { options } => doctor::run(config, options).await,
        Command::Ready => ready::ask(&config).await,
        Command::Quarantine(selection) => quarantine::list(&config, selection).await,
        Command::Readmit { filter } => quarantine::readmit(&config, filter).await,
        Command::Events(options) => events::run(&config, options).await,
        Command::Show(options) => show::run(&config, &options).await,
        Command::Forget(options) => forget::run(&config, &options).await,
        Command::Tail(selection) => tail::run(&config, selection).await,
        Command::Dead(selection) => dead::list(&config, selection).await,
        Command::Replay { selection, options } => dead::replay(&config, selection, options).await,
        Command::Reconcile { case, since } => reconcile::run(&config, case.as_ref(), since).await,
        Command::Pause { feature } => pause::pause(&config, feature).await,
        Command::Resume { feature } => pause::resume(&config, feature).await,
        Command::Serve => {
            let set_log_level = telemetry::start_logging(&config.log);
            let load = Box::new(move || load(arguments.config.as_deref()));
            let reload = |hangups| Reload { hangups, load, set_log_level };
            serve::run(config, hangups.map(|hangups| hangups.map(reload)), extend).await
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output, such as `head`, has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "backend: {error:#}");
            if error.is::<NotFound>() { ExitCode::from(NOT_FOUND) } else { ExitCode::FAILURE }
        }
    }
}

/// What was asked for does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFound(String);

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Loads the configuration and checks the Redis URLs, which only the inbox can parse.
fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let config = Config::load(file)?;
    let sink = config.sink.redis_url.reveal();
    let is_valid = [config.redis.urls().all(inbox::is_url), sink.is_empty() || inbox::is_url(sink)];
    let problem = "is not a URL like redis://[user:password@]host:port/[database] or unix:///path";
    match ["redis.url", "sink.redis_url"].into_iter().zip(is_valid).find(|(_, is_valid)| !is_valid) {
        Some((key, _)) => Err(ConfigError::invalid(key, problem).located(&config.settings)),
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests;
