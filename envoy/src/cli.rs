//! The command line of `guardctl`.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use envelope::{Authenticity, Policy, authenticity::Way};
use filter::settings::Settings;
use serde_json::Value;

use crate::{
    bootstrap::Bootstrap,
    drain::{self, Drain},
    ecds, policy_file,
    publish::{Backends, Build, Outcome},
    store::{Publication, hex},
    traffic::authenticated_codes,
};

mod target;

use target::{Patience, Target};

/// Publishes builds of the edge filter to Envoy, and rolls them back.
///
/// Exit codes: 0 if what was asked for is done, which for `publish` and `rollback` means that Envoy serves the build (or with
/// --stage: will serve it when it starts); 1 if not, and then Envoy serves what it served before; 2 if the command line is
/// wrong.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Swap in a build, verify that it answers and that the backends know its proof, and go back by itself if not.
    Publish {
        /// The WebAssembly module.
        #[arg(long)]
        wasm: PathBuf,
        /// The policy's settings (TOML); the defaults where none is given.
        #[arg(long)]
        policy: Option<PathBuf>,
        /// Path tokens in place of those in the policy, separated by white space; `authenticity.kind` becomes "path_token".
        #[arg(long, env = "WEBHOOK_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
        token: Option<String>,
        /// The file with the secret that the filter shows to the backend; made with a random one where it is missing.
        #[arg(long)]
        proof_file: PathBuf,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        patience: Patience,
    },
    /// Swap in the build that was served before, or a kept one by its name.
    Rollback {
        /// The build's name, as `status` lists it.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        patience: Patience,
    },
    /// Run Envoy, and drain it before it ends: on SIGTERM or SIGINT it is no longer ready, takes no new connections after
    /// --notice-seconds, and ends when no request is in flight. A second signal ends it at once. Exits with Envoy's status.
    Run {
        /// How many seconds load balancers may take to notice that Envoy is not ready; it takes new connections until then.
        #[arg(long, default_value_t = 5)]
        notice_seconds: u64,
        /// How many seconds it may take in all until no request is in flight.
        #[arg(long, default_value_t = 30)]
        drain_seconds: u64,
        /// Envoy's admin interface.
        #[arg(long, default_value = "http://127.0.0.1:9901")]
        admin: String,
        /// Envoy and its arguments, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Print a new random path token, and the path of the URL to register with it.
    Token {
        /// The policy whose `path` is the webhook's; the default path where none is given.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
    /// List the builds that are kept, and what Envoy says it serves. Fails where Envoy does not say.
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Print Envoy's bootstrap, with some of its values replaced.
    Bootstrap {
        /// NAME=VALUE for a value marked `# set: NAME`.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// An option to switch on, one of those that the bootstrap's first lines name.
        #[arg(long, value_name = "OPTION")]
        enable: Vec<String>,
    },
}

/// Runs the command line that this process was started with.
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let Command::Run { notice_seconds, drain_seconds, admin, command } = command else {
        return tool(command).map(|()| ExitCode::SUCCESS);
    };
    let (notice, limit) = (Duration::from_secs(notice_seconds), Duration::from_secs(drain_seconds));
    ensure!(notice < limit, "--drain-seconds must be more than --notice-seconds");
    let program = command.first().map(|program| program.display().to_string()).unwrap_or_default();
    let status = drain::run(&command, &Drain { admin, notice, limit });
    status.map(ExitCode::from).with_context(|| format!("cannot run {program}"))
}

fn tool(command: Command) -> Result<()> {
    let mut out = io::stdout();
    match command {
        Command::Publish { wasm, policy, token, proof_file, target, patience } => {
            let build = Build {
                module: fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?,
                policy: policy_file::read(policy.as_deref(), token.as_deref())?,
                proof: read_or_make_proof(&proof_file)?,
            };
            let (publication, outcome) = patience.publisher(&target)?.publish(&build)?;
            report(&mut out, &publication, outcome, patience.backends())
        }
        Command::Rollback { to, target, patience } => {
            let (publication, outcome) = patience.publisher(&target)?.rollback(to.as_deref())?;
            report(&mut out, &publication, outcome, patience.backends())
        }
        Command::Token { policy } => {
            let policy = policy_file::read(policy.as_deref(), None)?;
            let path = policy.get("path").and_then(Value::as_str).map_or_else(|| Policy::default().path, str::to_owned);
            let token = policy_file::new_token()?;
            Ok(writeln!(out, "token: {token}\npath to register: {path}/{token}")?)
        }
        // It has been handled.
        Command::Run { .. } => Ok(()),
        Command::Status { target } => status(&mut out, &target),
        Command::Bootstrap { settings, enable } => {
            let mut bootstrap = Bootstrap::shipped();
            for option in enable {
                bootstrap = bootstrap.enable(&option)?;
            }
            for setting in settings {
                let (name, value) =
                    setting.split_once('=').with_context(|| format!("`{setting}` is not NAME=VALUE"))?;
                bootstrap = bootstrap.set(name, value)?;
            }
            Ok(out.write_all(bootstrap.render()?.as_bytes())?)
        }
    }
}

fn read_or_make_proof(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(proof) => Ok(proof.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; Settings::PROOF_MIN * 2];
            getrandom::fill(&mut random).map_err(anyhow::Error::msg).context("the system gives no random numbers")?;
            let proof = hex(&random);
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(proof.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(proof)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn report(out: &mut impl Write, publication: &Publication, outcome: Outcome, backends: Backends) -> Result<()> {
    let policy = ecds::settings(&publication.response).map(|settings| settings.policy).unwrap_or_default();
    warn_of_open_ways(&policy);
    let is_serving = matches!(outcome, Outcome::Verified | Outcome::Unproven);
    if is_serving && authenticated_codes(&policy).is_empty() {
        tell(
            "rejections were not judged, because without authenticity anyone could cause them; crashes of the filter and \
             5xx answers were",
        );
    }
    let said = match outcome {
        Outcome::Verified => "is serving: it answered every probe, and the backends know its proof",
        Outcome::Unproven if backends == Backends::Skip => "is serving: it answered every probe; no backend was asked",
        Outcome::Unproven => "is serving: it answered every probe; no backend answered whether it knows its proof",
        Outcome::Staged => "is staged: no Envoy answers, and it will load the build when it starts",
        Outcome::Unchanged => "was published before: no Envoy answers, and it will load the build when it starts",
    };
    Ok(writeln!(out, "build {} (publication {}) {said}", publication.build, publication.number)?)
}

/// Says what anyone can do under the policy, and what to do about it.
fn warn_of_open_ways(policy: &Policy) {
    for (way, authenticity) in policy.ways() {
        match (way, authenticity) {
            (Way::Current, Authenticity::None) => tell(
                "warning: `authenticity.kind` is \"none\", so whoever finds the URL can send events, which costs calls of the \
                 Partner API and delays genuine events. Make a token with `guardctl token`, publish with it (--token or \
                 WEBHOOK_TOKEN) and register its URL; docs/EDGE.md says how to do that on a live endpoint",
            ),
            (Way::Superseded, Authenticity::None) => tell(
                "warning: requests without a token or signature are still accepted. Once `truenroll_filter_superseded` no longer \
                 rises, remove [authenticity.or] from the policy and publish again",
            ),
            _ => {}
        }
    }
}

fn status(out: &mut impl Write, target: &Target) -> Result<()> {
    let store = target.store()?;
    let current = store.current()?.map(|publication| publication.number);
    for publication in store.publications()? {
        let mark = if Some(publication.number) == current { "published" } else { "" };
        writeln!(out, "{:>6}  {}  {mark}", publication.number, publication.build)?;
    }
    match target.edge().probe() {
        Ok(build) => Ok(writeln!(out, "Envoy serves {build}")?),
        Err(error) => bail!("Envoy does not say what it serves: {error}"),
    }
}

/// Writes a line for the operator to standard error.
fn tell(line: &str) {
    _ = writeln!(io::stderr(), "guardctl: {line}");
}
