//! Programs that the harness starts and stops.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How many lines of a program's log an error shows.
const LAST_LINES: usize = 15;

/// A running program. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes its output to `log`.
    ///
    /// The program gets its own process group, so that Ctrl-C reaches only the harness, and the
    /// kernel kills it when the thread that started it ends, even if that thread was killed. This
    /// takes `setpriv` (util-linux). Without it, the program stays in the harness's process group,
    /// and Ctrl-C ends it.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut tied = Command::new("setpriv");
        let command = if Self::can_be_tied() {
            tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => tied.env(name, value),
                    None => tied.env_remove(name),
                };
            }
            tied.process_group(0)
        } else {
            command
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} (`{}`)", command.get_program().display()))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    fn can_be_tied() -> bool {
        static CAN: LazyLock<bool> = LazyLock::new(|| {
            let probe =
                Command::new("setpriv").args(["--pdeathsig", "KILL", "--", "true"]).stderr(Stdio::null()).status();
            probe.is_ok_and(|status| status.success())
        });
        *CAN
    }

    /// The program's process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time of all of the program's live threads, as the kernel's scheduler counts it.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let Ok(schedstat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let nanoseconds = schedstat.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            total += nanoseconds.context("the kernel reports no CPU time of threads")?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Waits until `ready` returns true.
    ///
    /// # Errors
    /// If the program ends first, or does not become ready in time; with the end of its log.
    pub fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.last_lines(LAST_LINES));
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {patience:?}:\n{}", self.name, self.last_lines(LAST_LINES));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills the program with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends a signal, given by its name without SIG.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status()?;
        if sent.success() { Ok(()) } else { bail!("cannot send {signal} to {} ({})", self.name, self.pid()) }
    }

    /// Stops the program with SIGTERM, and kills it if it does not end in time. Returns its exit
    /// status, or `None` if it was killed.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn stop(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        if self.child.try_wait()?.is_none() {
            self.signal("TERM")?;
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()?;
        Ok(None)
    }

    /// Waits until the program has ended by itself. Returns its exit status, or `None` if it still
    /// runs.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that the program has written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The last `count` lines that the program has written.
    pub fn last_lines(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            _ = self.kill();
        }
    }
}

/// Returns a port on the loopback interface that no program listens on, and that this process has
/// not returned before.
///
/// # Errors
/// If there is no free port.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}
