//! `guardctl`: publishes a filter build to a running Envoy, and goes back to an earlier one.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use envoy::{
    bootstrap::Bootstrap,
    edge::Edge,
    publish::{Build, Outcome, Publisher},
    store::{Publication, Store, hex},
};
use filter::settings::Settings;

/// Publishes builds of the edge filter to Envoy, and rolls them back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Swap in a build, verify that it answers, and go back by itself if it does not.
    Publish {
        /// The WebAssembly module.
        #[arg(long)]
        wasm: PathBuf,
        /// The policy's settings (TOML); the defaults where none is given.
        #[arg(long)]
        policy: Option<PathBuf>,
        /// The file with the secret that the filter shows to the backend; made with a random one where it is missing.
        #[arg(long)]
        proof_file: PathBuf,
        #[command(flatten)]
        target: Target,
    },
    /// Swap in the build that was served before, or a kept one by its name.
    Rollback {
        /// The build's name, as `status` lists it.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List the builds that are kept, and what Envoy says it serves.
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

#[derive(Args)]
struct Target {
    /// The directory that Envoy and guardctl share.
    #[arg(long, default_value = "/var/lib/edge", env = "EDGE_DIR")]
    dir: PathBuf,
    /// Envoy's listener for operators.
    #[arg(long, default_value = "http://127.0.0.1:9902", env = "EDGE_URL")]
    edge: String,
    /// How many seconds Envoy may take to serve a build.
    #[arg(long, default_value_t = 15)]
    patience: u64,
    /// The Envoy program to rehearse a build with before it is published; where it is `envoy` and there is none on the
    /// PATH, there is no rehearsal.
    #[arg(long, default_value = "envoy")]
    rehearse_with: PathBuf,
    /// How many seconds to watch a new build's refusals before it is trusted.
    #[arg(long, default_value_t = 5)]
    watch: u64,
    /// By how much the share of refused requests may rise meanwhile, 0 to 1; past it the build before is brought back.
    #[arg(long, default_value_t = 0.2)]
    max_rise: f64,
    /// How many publications to keep.
    #[arg(long, default_value_t = 10)]
    keep: usize,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "guardctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let mut out = io::stdout();
    match command {
        Command::Publish { wasm, policy, proof_file, target } => {
            let build = Build {
                module: fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?,
                policy: policy.as_deref().map_or(Ok(serde_json::json!({})), read_policy)?,
                proof: read_or_make_proof(&proof_file)?,
            };
            say(&mut out, &target.publisher()?.publish(&build)?)
        }
        Command::Rollback { to, target } => say(&mut out, &target.publisher()?.rollback(to.as_deref())?),
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
            Ok(out.write_all(bootstrap.as_yaml().as_bytes())?)
        }
    }
}

impl Target {
    fn edge(&self) -> Edge {
        Edge { url: self.edge.clone() }
    }

    fn envoy_program(&self) -> Result<Option<PathBuf>> {
        let program = &self.rehearse_with;
        if program.components().count() > 1 {
            anyhow::ensure!(
                program.is_file(),
                "there is no Envoy at {}, which --rehearse-with names",
                program.display()
            );
            return Ok(Some(program.clone()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
        if found.is_none() {
            writeln!(io::stderr(), "guardctl: no {} on the PATH, so the build is not rehearsed", program.display())?;
        }
        Ok(found)
    }

    fn publisher(&self) -> Result<Publisher> {
        Ok(Publisher {
            store: Store::open(&self.dir).with_context(|| format!("cannot open {}", self.dir.display()))?,
            edge: Some(self.edge()),
            rehearse_with: self.envoy_program()?,
            patience: Duration::from_secs(self.patience),
            watch: Duration::from_secs(self.watch),
            max_rise: self.max_rise,
            keep: self.keep,
        })
    }
}

fn read_policy(path: &Path) -> Result<serde_json::Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not TOML", path.display()))
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

fn say(out: &mut impl Write, (publication, outcome): &(Publication, Outcome)) -> Result<()> {
    let said = match outcome {
        Outcome::Verified => "is serving: every probe was answered by it",
        Outcome::Staged => "is staged: no Envoy answers, and it will load the build when it starts",
    };
    Ok(writeln!(out, "build {} (publication {}) {said}", publication.build, publication.number)?)
}

fn status(out: &mut impl Write, target: &Target) -> Result<()> {
    let store = Store::open(&target.dir).with_context(|| format!("cannot open {}", target.dir.display()))?;
    let current = store.current()?.map(|publication| publication.number);
    for publication in store.publications()? {
        let mark = if Some(publication.number) == current { "published" } else { "" };
        writeln!(out, "{:>6}  {}  {mark}", publication.number, publication.build)?;
    }
    match target.edge().probe() {
        Ok(build) => Ok(writeln!(out, "Envoy serves {build}")?),
        Err(error) => Ok(writeln!(out, "Envoy does not say what it serves: {error}")?),
    }
}
