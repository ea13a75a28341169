//! Programs that are started here and stopped here.

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

/// A running program. Killed when it is dropped, whatever happened before.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes to `log`, in a process group of its own, so that Ctrl-C is ours to handle; and so that
    /// it ends with the thread that started it, even where that is killed.
    ///
    /// Without `setpriv` (util-linux) the latter cannot be had: then the program stays in our group, and Ctrl-C ends it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut tied = Command::new("setpriv");
        let command = if Self::can_be_tied() {
            tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
            tied.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).process_group(0);
            &mut tied
        } else {
            command
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
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

    /// The program's process identifier.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU time of all of its threads that live, by the kernel's scheduler.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let Ok(schedstat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let nanoseconds = schedstat.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            total += nanoseconds.context("the kernel tells no CPU time of threads")?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Waits until `ready` holds, the program ends or the time is up.
    ///
    /// # Errors
    /// In the latter two cases, with the end of the program's log.
    pub fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {patience:?}:\n{}", self.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills the program at once, as `kill -9` does.
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends a signal, by its name without SIG.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status()?;
        if sent.success() { Ok(()) } else { bail!("cannot send {signal} to {} ({})", self.name, self.pid()) }
    }

    /// Asks the program to end, and kills it where it does not in time.
    ///
    /// # Errors
    /// Where it cannot be asked.
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

    /// Waits until the program has ended by itself, and returns its status; none where the time is up.
    ///
    /// # Errors
    /// Where the kernel does not tell.
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

    /// All that the program has written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            _ = self.kill();
        }
    }
}

/// A port on the loopback interface that nobody listens on, and that nobody else here was given.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}
