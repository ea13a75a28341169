//! `cargo up`, run as a user would.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use harness::process::Process;

use crate::fixture::PATIENCE;

fn start(arguments: &[&str], log: &Path) -> Process {
    let port = harness::process::free_port().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_up"));
    command.args(["--port", &port]).args(arguments);
    Process::start("cargo up", &mut command, log).unwrap()
}

/// The running child processes of `parent`.
fn children(parent: u32) -> BTreeSet<u32> {
    let parent_of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

fn all_end(pids: &BTreeSet<u32>) {
    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        assert!(Instant::now() < deadline, "still running: {pids:?}");
        std::thread::yield_now();
    }
}

#[test]
fn it_ends_by_itself_and_its_figures_agree() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut up = start(&["--duration", "3", "--seed", "7"], log.path());
    let ended = up.wait_until(Duration::from_secs(120), || false).unwrap_err().to_string();
    assert!(ended.contains("ended with exit status: 0"), "{ended}");
    let said = up.log();
    assert!(said.contains("accepted = handled = delivered"), "{said}");
    assert!(!said.contains("UNEXPECTED RESULT"), "{said}");
}

#[test]
fn neither_ctrl_c_nor_kill_leaves_a_process_behind() {
    for signal in ["INT", "KILL"] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut up = start(&[], log.path());
        let printed = || fs::read_to_string(log.path()).unwrap_or_default();
        up.wait_until(Duration::from_secs(120), || printed().contains("sent")).unwrap();
        let running = children(up.pid());
        assert_eq!(running.len(), 3, "Redis, the backend and Envoy");
        up.signal(signal).unwrap();
        let ended = up.wait_until(PATIENCE, || false).unwrap_err().to_string();
        assert_eq!(signal == "INT", ended.contains("exit status: 0"), "{ended}");
        all_end(&running);
    }
}
