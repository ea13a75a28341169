//! Starts the programs, in a folder that no other `cargo up` uses.

use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use harness::{
    process::free_port,
    simulator::{Simulator, running::Claim},
    stack::{Options, Stack},
    tools::{self, say},
};

use crate::Arguments;

/// Starts everything. The claim is on the stack's folder.
pub(crate) fn start(arguments: &Arguments, simulator: &Simulator) -> Result<(Stack, Claim)> {
    say("looking for Envoy, Redis and a WebAssembly compiler; tools that are missing will be installed");
    tools::envoy()?;
    let redis_url = env::var("REDIS_URL").ok();
    if redis_url.is_none() {
        tools::redis_server()?;
    }
    tools::wasm_filter()?;
    say("building the backend");
    tools::workspace_binary("backend", "backend", &[])?;
    say("starting Redis, the backend and Envoy");
    let mut options = Options::new(simulator.url());
    let claim;
    if let Some(folder) = &arguments.dir {
        claim = Some(claimed(folder)?.with_context(|| in_use(folder))?);
        options.folder = Some(folder.canonicalize()?);
    } else {
        let usual = tools::target().join("up");
        claim = claimed(&usual)?;
        if claim.is_some() {
            empty(&usual).with_context(|| format!("cannot empty the folder {}", usual.display()))?;
            options.folder = Some(usual);
        } else {
            say(&format!("{}; using a temporary folder instead", in_use(&usual)));
        }
    }
    options.edge_port = match arguments.port {
        Some(port) => {
            TcpListener::bind(("127.0.0.1", port))
                .with_context(|| format!("cannot listen for webhooks on port {port}"))?;
            Some(port)
        }
        None => TcpListener::bind("127.0.0.1:8080").ok().map(|_| 8080),
    };
    let console_port = match TcpListener::bind("127.0.0.1:9091") {
        Ok(_) => 9091,
        Err(_) => free_port()?,
    };
    options = options.backend("console.listen", format!("127.0.0.1:{console_port}"));
    if let Some(url) = redis_url {
        // The server belongs to somebody else: use keys of our own, and accept its settings as they
        // are.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        options = options
            .backend("redis.prefix", format!("up-{now}"))
            .backend("redis.durability", "memory")
            .backend("redis.check_server", "false");
        options.redis_url = Some(url);
    }
    if let Some(sink) = &arguments.sink {
        options = options
            .backend("sink.url", sink)
            // The log then says what the application answered, in a form that can be read.
            .backend("log.level", "debug")
            .backend("log.format", "json")
            // Whoever has corrected the application should not have to wait for the retry.
            .backend("worker.backoff_cap_ms", LONGEST_BACKOFF_MS);
    }
    let stack = Stack::start(options)?;
    let claim = match claim {
        Some(claim) => claim,
        None => Claim::of(stack.folder())?.with_context(|| in_use(stack.folder()))?,
    };
    Ok((stack, claim))
}

/// The longest wait before an outcome is delivered again to the developer's own application.
const LONGEST_BACKOFF_MS: u64 = 5_000;

/// Creates a folder and claims it; `None` if another `cargo up` runs in it.
fn claimed(folder: &Path) -> Result<Option<Claim>> {
    let claim = fs::create_dir_all(folder).and_then(|()| Claim::of(folder));
    claim.with_context(|| format!("cannot create the folder {}", folder.display()))
}

fn in_use(folder: &Path) -> String {
    format!("another `cargo up` runs in {}", folder.display())
}

/// Deletes what an earlier run has left in the folder. The folder itself stays, since it is claimed.
fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
