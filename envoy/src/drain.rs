//! Runs Envoy, and drains it before it ends.
//!
//! By itself Envoy ends within some 30 ms of SIGTERM and cuts off the requests in flight. Here SIGTERM and SIGINT first make
//! it report that it is not ready, so that load balancers send new requests elsewhere; then it closes its listeners; and it
//! ends when no request is in flight any more, or when the time is up. A second signal ends it at once.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::{
    runtime,
    signal::unix::{Signal as Signals, SignalKind, signal},
    task::JoinHandle,
    time::{Instant as Deadline, sleep_until},
};

/// How Envoy is drained.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Envoy's admin interface, `http://127.0.0.1:9901` for example.
    pub admin: String,
    /// How long load balancers may take to notice that Envoy is not ready. It takes new connections until then.
    pub notice: Duration,
    /// How long it may take until no request is in flight, `notice` included.
    pub limit: Duration,
}

/// For so long no request has to be in flight: one may be between a connection and its first byte.
const QUIET: Duration = Duration::from_millis(500);
/// How often Envoy is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long Envoy may take to end once it is told to, before it is killed.
const ENDING: Duration = Duration::from_secs(5);
/// One question to the admin interface takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What shells add to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;

/// How far Envoy is from its end.
enum Phase {
    Serving,
    Draining(JoinHandle<()>),
    Ending(Deadline),
}

/// Runs Envoy until it ends, and returns its exit status; 128 and the signal's number where a signal ended it.
///
/// # Errors
/// Where it cannot be started.
pub fn run(command: &[OsString], drain: &Drain) -> io::Result<u8> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(supervise(command, drain));
    // A drain that was cut short is not waited for.
    runtime.shutdown_background();
    status
}

async fn supervise(command: &[OsString], drain: &Drain) -> io::Result<u8> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // Before Envoy is started, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut child_ended = signal(SignalKind::child())?;
    let mut envoy = Command::new(program);
    envoy.args(arguments);
    if !arguments.iter().any(|argument| argument == "--drain-time-s") {
        envoy.arg("--drain-time-s").arg(drain.notice.as_secs().max(1).to_string());
    }
    // In a process group of its own, so that Ctrl-C in a terminal reaches it through us alone.
    let envoy = Pid::from_child(&envoy.process_group(0).spawn()?);
    let mut phase = Phase::Serving;
    loop {
        tokio::select! {
            _ = child_ended.recv() => if let Some(status) = reap(envoy) { return Ok(status) },
            () = either(&mut terminate, &mut interrupt) => phase = match phase {
                Phase::Serving => {
                    tell("draining Envoy; another signal ends it at once");
                    let drain = drain.clone();
                    Phase::Draining(tokio::task::spawn_blocking(move || drain.wait()))
                }
                Phase::Draining(_) | Phase::Ending(_) => end(envoy),
            },
            () = phase.is_over() => match phase {
                Phase::Ending(_) => {
                    tell("Envoy does not end, and is killed");
                    // It may have ended meanwhile.
                    _ = kill_process(envoy, Signal::KILL);
                    phase = Phase::Ending(Deadline::now() + ENDING);
                }
                Phase::Serving | Phase::Draining(_) => phase = end(envoy),
            },
        }
    }
}

impl Phase {
    /// Resolves when the phase ends by itself.
    async fn is_over(&mut self) {
        match self {
            Self::Serving => std::future::pending().await,
            // A drain that panicked is over as well.
            Self::Draining(drain) => _ = drain.await,
            Self::Ending(deadline) => sleep_until(*deadline).await,
        }
    }
}

async fn either(one: &mut Signals, other: &mut Signals) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn end(envoy: Pid) -> Phase {
    // It may have ended meanwhile; then its status is about to be read.
    _ = kill_process(envoy, Signal::TERM);
    Phase::Ending(Deadline::now() + ENDING)
}

/// Takes the status of every child that has ended, since as process 1 of a container we inherit orphans; Envoy's, if it is
/// among them.
fn reap(envoy: Pid) -> Option<u8> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == envoy {
            let signalled = status.terminating_signal().map(|signal| BY_SIGNAL + signal);
            let code = status.exit_status().or(signalled).unwrap_or(1);
            return Some(u8::try_from(code).unwrap_or(1));
        }
    }
    None
}

impl Drain {
    /// Makes Envoy unready, and waits until it may end.
    fn wait(&self) {
        let began = Instant::now();
        for path in ["/healthcheck/fail", "/drain_listeners?graceful"] {
            if let Err(error) = self.post(path) {
                return tell(&format!("Envoy cannot be drained, and ends at once: {}{path}: {error}", self.admin));
            }
        }
        let mut quiet_since = None;
        while began.elapsed() < self.limit {
            let in_flight = match self.requests_in_flight() {
                Ok(in_flight) => in_flight,
                Err(error) => return tell(&format!("Envoy does not say what is in flight, and ends at once: {error}")),
            };
            quiet_since = (in_flight == 0).then(|| quiet_since.unwrap_or_else(Instant::now));
            let is_quiet = quiet_since.is_some_and(|since| since.elapsed() >= QUIET);
            if is_quiet && began.elapsed() >= self.notice {
                return tell("no request is in flight any more: Envoy ends");
            }
            thread::sleep(INTERVAL);
        }
        tell("the time for draining is up: Envoy ends with requests in flight");
    }

    fn post(&self, path: &str) -> Result<(), ureq::Error> {
        agent().post(format!("{}{path}", self.admin)).send_empty().map(drop)
    }

    fn requests_in_flight(&self) -> Result<u64, String> {
        let url = format!("{}/stats?filter=%5Ehttp%5C.edge%5C.downstream_rq_active$", self.admin);
        let mut answer = agent().get(&url).call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let value = text.trim().strip_prefix("http.edge.downstream_rq_active: ");
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("{url} has no such metric"))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build().into()
}

/// Writes a line for the operator to standard error, where Envoy's own log goes.
fn tell(line: &str) {
    _ = writeln!(io::stderr(), "guardctl: {line}");
}
