//! Runs Envoy, and drains it before it stops.
//!
//! On SIGTERM, Envoy itself stops within about 30 ms and cuts off the requests in flight. Here,
//! SIGTERM and SIGINT first make Envoy report that it is not ready, so that load balancers send new
//! requests elsewhere. Then Envoy closes its listeners, and stops when no request is in flight or
//! the time limit has passed. A second signal stops it at once.

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

/// How to drain Envoy.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The URL of Envoy's admin interface, for example `http://127.0.0.1:9901`.
    pub admin: String,
    /// The time that load balancers have to notice that Envoy is not ready. Until then it accepts
    /// connections.
    pub notice: Duration,
    /// The longest time until Envoy stops. Includes `notice`.
    pub limit: Duration,
}

/// The time without a request in flight after which Envoy stops. A client may have connected but
/// not yet sent the first byte of its request.
const QUIET: Duration = Duration::from_millis(500);
/// The time between two questions to Envoy.
const INTERVAL: Duration = Duration::from_millis(100);
/// The time that Envoy has after SIGTERM before it is killed.
const ENDING: Duration = Duration::from_secs(5);
/// The longest time for one question to the admin interface.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The number that shells add to the signal that killed a program.
const BY_SIGNAL: i32 = 128;

/// A phase of Envoy's life.
enum Phase {
    Serving,
    Draining(JoinHandle<()>),
    Ending(Deadline),
}

/// Runs Envoy until it stops, and returns its exit status, or 128 plus the signal's number if a
/// signal killed it.
///
/// # Errors
/// If Envoy cannot be started.
pub fn run(command: &[OsString], drain: &Drain) -> io::Result<u8> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(supervise(command, drain));
    // Does not wait for a drain that was cut short.
    runtime.shutdown_background();
    status
}

async fn supervise(command: &[OsString], drain: &Drain) -> io::Result<u8> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // Before Envoy starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child_ended = signal(SignalKind::child())?;
    let mut envoy = Command::new(program);
    envoy.args(arguments);
    if !arguments.iter().any(|argument| argument == "--drain-time-s") {
        envoy.arg("--drain-time-s").arg(drain.notice.as_secs().max(1).to_string());
    }
    // In its own process group, so that Ctrl-C in a terminal reaches only guardctl.
    let envoy = Pid::from_child(&envoy.process_group(0).spawn()?);
    let mut phase = Phase::Serving;
    loop {
        tokio::select! {
            _ = child_ended.recv() => if let Some(status) = reap(envoy) { return Ok(status) },
            () = either(&mut terminate, &mut interrupt) => phase = match phase {
                Phase::Serving => {
                    tell("draining Envoy; a second signal stops it at once");
                    let drain = drain.clone();
                    Phase::Draining(tokio::task::spawn_blocking(move || drain.wait()))
                }
                Phase::Draining(_) | Phase::Ending(_) => end(envoy),
            },
            () = phase.is_over() => match phase {
                Phase::Ending(_) => {
                    tell("Envoy did not stop in time, killing it");
                    // Envoy may have stopped meanwhile.
                    _ = kill_process(envoy, Signal::KILL);
                    phase = Phase::Ending(Deadline::now() + ENDING);
                }
                Phase::Serving | Phase::Draining(_) => phase = end(envoy),
            },
        }
    }
}

impl Phase {
    /// Resolves when the phase is over by itself.
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
    // Envoy may have stopped meanwhile; then `reap` is about to read its status.
    _ = kill_process(envoy, Signal::TERM);
    Phase::Ending(Deadline::now() + ENDING)
}

/// Reaps every child that has ended, and returns Envoy's status if Envoy is among them. As process
/// 1 of a container, guardctl inherits orphans.
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
    /// Makes Envoy unready, and waits until it may stop.
    fn wait(&self) {
        let began = Instant::now();
        for path in ["/healthcheck/fail", "/drain_listeners?graceful"] {
            if let Err(error) = self.post(path) {
                return tell(&format!("cannot drain Envoy, stopping it at once: {}{path}: {error}", self.admin));
            }
        }
        let mut quiet_since = None;
        while began.elapsed() < self.limit {
            let in_flight = match self.requests_in_flight() {
                Ok(in_flight) => in_flight,
                Err(error) => {
                    return tell(&format!("cannot tell which requests are in flight, stopping Envoy at once: {error}"));
                }
            };
            quiet_since = (in_flight == 0).then(|| quiet_since.unwrap_or_else(Instant::now));
            let is_quiet = quiet_since.is_some_and(|since| since.elapsed() >= QUIET);
            if is_quiet && began.elapsed() >= self.notice {
                return tell("no request is in flight, stopping Envoy");
            }
            thread::sleep(INTERVAL);
        }
        tell("--drain-seconds have passed, stopping Envoy with requests in flight");
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

/// Writes a line to standard error, where Envoy logs as well.
fn tell(line: &str) {
    _ = writeln!(io::stderr(), "guardctl: {line}");
}
