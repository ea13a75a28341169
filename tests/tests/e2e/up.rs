//! `cargo up`, run as a user would.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use harness::{backend_settings::SINK_SECRET, process::Process, tools};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;

use crate::{
    fixture::{PATIENCE, eventually},
    send,
};

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

/// An application that answers the first outcome 500, and from then on accepts outcomes that are
/// signed with the secret that `cargo up` prints.
async fn accept(State(received): State<Arc<AtomicUsize>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if Webhook::new(SINK_SECRET).unwrap().verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    match received.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::ACCEPTED,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_go_to_an_application_of_your_own_and_other_commands_find_what_runs() {
    let received = Arc::new(AtomicUsize::new(0));
    let routes = Router::new().route("/own", post(accept)).with_state(Arc::clone(&received));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = format!("http://{}/own", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, routes).await });
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut up = start(&["--sink", &sink, "--rate", "0", "--dir", dir], log.path());
    let printed = || fs::read_to_string(log.path()).unwrap_or_default();
    up.wait_until(Duration::from_secs(120), || printed().contains("guardctl status")).unwrap();
    assert!(printed().contains("  Redis        redis://127.0.0.1:"), "{}", printed());
    let console =
        printed().lines().find_map(|line| line.trim_start().strip_prefix("console ")).unwrap().trim().to_owned();
    assert!(reqwest::get(&console).await.unwrap().text().await.unwrap().contains("Overview"), "{console}");
    assert!(printed().contains(&format!("{sink}  with SINK_SECRET={SINK_SECRET}")), "{}", printed());

    // The application answers 500, and 202 to the retry.
    let (code, said) = send::send(&["extraction.completed", "--case", "by-hand", "--up", dir]);
    assert_eq!(code, Some(0), "{said}");
    let line = |answer: &str, key: &str| {
        let is_it = |line: &str| line.trim_start().starts_with(answer) && line.contains(key);
        printed().lines().any(is_it)
    };
    let key = "case.extraction.completed:by-hand:";
    eventually("both answers are shown", async || line("500 after ", key) && line("202 after ", key)).await;

    let forged = send::send(&["extraction.completed", "--forged", "--up", dir]);
    assert_eq!(forged.0, Some(0), "{}", forged.1);
    let forged = "case.extraction.completed:no-such-case:";
    eventually("the dead letter is shown", async || line("dead letter, api_case_not_found", forged)).await;
    let backend = tools::workspace_binary("backend", "backend", &[]).unwrap();
    let config = format!("{dir}/backend.toml");
    let run = |program: &Path, arguments: &[&str]| {
        let mut shell = Command::new("sh");
        // As `cargo up` says, in a shell that has loaded the variables.
        shell.args(["-c", "set -a; . \"$0/env\"; set +a; exec \"$@\"", dir]).arg(program).args(arguments);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for arguments in [&["--config", &config, "dead"][..], &["dead"]] {
        let (code, said) = run(&backend, arguments);
        assert!(code == Some(0) && said.contains(forged), "{said}");
    }
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    for (program, arguments) in [(&backend, "ready"), (&backend, "check"), (&guardctl, "status"), (&guardctl, "ready")]
    {
        let (code, said) = run(program, &[arguments]);
        assert_eq!(code, Some(0), "{arguments}: {said}");
    }
    assert_eq!(fs::read_to_string(format!("{dir}/proof")).unwrap(), harness::backend_settings::PROOF);

    up.signal("INT").unwrap();
    eventually("it says what happened", async || printed().contains("delivered, or a dead letter")).await;
    let ended = up.wait_until(PATIENCE, || false).unwrap_err().to_string();
    assert!(ended.contains("ended with exit status: 0"), "{ended}");
    assert_eq!(received.load(Ordering::SeqCst), 2);
    let (code, said) = send::send(&["extraction.completed", "--up", dir]);
    assert!(code == Some(1) && said.contains("no `cargo up` runs"), "{said}");
    assert!(!Path::new(&config).exists());
    server.abort();
}
