//! Starts Envoy, drains it when a signal arrives, and waits until it has ended.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Resource, Signal, WaitOptions, getrlimit, kill_process, setrlimit, wait};
use tokio::{
    runtime,
    signal::unix::{Signal as Signals, SignalKind, signal},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Drain, tell};

/// The time that Envoy has after SIGTERM before it is killed.
const ENDING: Duration = Duration::from_secs(5);
/// The number that shells add to the signal that killed a program.
const BY_SIGNAL: i32 = 128;
/// Envoy's option for the time after which it closes drained listeners.
const DRAIN_TIME: &str = "--drain-time-s";

/// A phase of Envoy's life.
enum Phase {
    Serving,
    Draining(JoinHandle<()>),
    Ending(Instant),
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
    // Before Envoy starts, so that no signal is missed.
    let mut stop = StopSignals::listen()?;
    let mut child_ended = signal(SignalKind::child())?;
    let envoy = start(command, drain)?;
    let mut phase = Phase::Serving;
    loop {
        tokio::select! {
            _ = child_ended.recv() => if let Some(status) = reap(envoy) { return Ok(status) },
            received = stop.recv() => phase = phase.interrupt(received, envoy, drain),
            () = phase.is_over() => phase = phase.next(envoy),
        }
    }
}

fn start(command: &[OsString], drain: &Drain) -> io::Result<Pid> {
    raise_limit_of_open_files();
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut envoy = Command::new(program);
    envoy.args(arguments);
    if lacks_drain_time(command) {
        envoy.arg(DRAIN_TIME).arg(drain.notice.as_secs().max(1).to_string());
    }
    // In its own process group, so that Ctrl-C in a terminal reaches only guardctl.
    Ok(Pid::from_child(&envoy.process_group(0).spawn()?))
}

/// Raises the limit of open files, which Envoy inherits, as far as the system allows. Each connection
/// takes one, and the limit that container engines set by default may be as low as 1,024.
fn raise_limit_of_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tell(&format!("cannot raise the limit of open files: {error}"));
    }
}

/// Whether this command runs Envoy without an option for the drain time. Envoy may be run by
/// another program, for example by `nice envoy -c …`.
fn lacks_drain_time(command: &[OsString]) -> bool {
    let runs_envoy = command.iter().any(|word| Path::new(word).file_name() == Some(OsStr::new("envoy")));
    runs_envoy && !command.iter().any(|word| word == DRAIN_TIME)
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

    /// Returns the phase after one that is over by itself.
    fn next(self, envoy: Pid) -> Self {
        match self {
            Self::Serving | Self::Draining(_) => end(envoy),
            Self::Ending(_) => {
                tell("Envoy did not stop in time, killing it");
                // Envoy may have stopped meanwhile.
                _ = kill_process(envoy, Signal::KILL);
                Self::Ending(Instant::now() + ENDING)
            }
        }
    }

    /// Returns the phase after a signal. The signals that follow the second one change nothing, so
    /// they cannot keep an Envoy alive that does not stop.
    fn interrupt(self, received: Received, envoy: Pid, drain: &Drain) -> Self {
        match (self, received) {
            (Self::Serving, _) => {
                tell("draining Envoy; another SIGTERM stops it at once");
                let drain = drain.clone();
                Self::Draining(tokio::task::spawn_blocking(move || drain.wait()))
            }
            (Self::Draining(_), Received::Stop) => end(envoy),
            (phase, _) => phase,
        }
    }
}

fn end(envoy: Pid) -> Phase {
    // Envoy may have stopped meanwhile; then `reap` is about to read its status.
    _ = kill_process(envoy, Signal::TERM);
    Phase::Ending(Instant::now() + ENDING)
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

/// A signal that guardctl has received.
#[derive(Clone, Copy)]
enum Received {
    /// SIGTERM, SIGINT or SIGQUIT.
    Stop,
    /// SIGHUP. It starts a drain but does not cut one short: service managers and shells send it in
    /// addition to another signal.
    HangUp,
}

/// The signals that stop Envoy: every signal that a terminal or a service manager sends to stop a
/// program. Each of them would otherwise end guardctl and leave Envoy running.
struct StopSignals {
    terminate: Signals,
    interrupt: Signals,
    quit: Signals,
    /// `None` if guardctl was started with SIGHUP ignored, as `nohup` does.
    hang_up: Option<Signals>,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        // Asked first, because listening to a signal ends its being ignored.
        let ignores_hang_up = ignores(SignalKind::hangup());
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: if ignores_hang_up { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Resolves at the next signal.
    async fn recv(&mut self) -> Received {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Received::Stop,
            _ = self.interrupt.recv() => Received::Stop,
            _ = self.quit.recv() => Received::Stop,
            _ = hang_up => Received::HangUp,
        }
    }
}

/// Whether this process ignores a signal.
fn ignores(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // The lowest bit stands for signal 1.
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_envoy_without_a_drain_time_gets_one() {
        for (command, expected) in [
            ("envoy -c envoy.yaml", true),
            ("/usr/local/bin/envoy -c envoy.yaml", true),
            ("nice -n 5 /usr/local/bin/envoy", true),
            ("envoy --drain-time-s 60 -c envoy.yaml", false),
            ("sleep 60", false),
            ("sh -c envoy.sh", false),
        ] {
            let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
            assert_eq!(lacks_drain_time(&words), expected, "{command}");
        }
    }
}
