//! Envoy is drained before it ends: requests in flight finish, and new ones go to another Envoy.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use harness::{
    balancer::Balancer,
    simulator::sender::{Answer, Sender},
    stack::DrainedEnvoy,
    tools,
};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// Stops an Envoy with SIGTERM while requests are in flight, and starts it again after it has
/// ended.
async fn restart(envoy: &mut DrainedEnvoy, fixture: &Fixture) {
    fixture.stack.backend.signal("STOP").unwrap();
    in_flight(envoy).await;
    envoy.process.signal("TERM").unwrap();
    let client = harness::simulator::sender::client();
    eventually("Envoy is no longer ready", async || {
        client.get(envoy.ready()).send().await.map_or(true, |answer| answer.status() != 200)
    })
    .await;
    fixture.stack.backend.signal("CONT").unwrap();
    tokio::task::block_in_place(|| {
        envoy.ends_well(Duration::from_secs(60)).unwrap();
        envoy.start_again().unwrap();
    });
}

async fn is_unready(envoy: &DrainedEnvoy) {
    let client = harness::simulator::sender::client();
    eventually("Envoy is no longer ready", async || {
        let answer = client.get(envoy.ready()).send().await;
        answer.is_ok_and(|answer| answer.status() == 503)
    })
    .await;
}

fn has_ended(envoy: &mut DrainedEnvoy) -> bool {
    envoy.process.wait(Duration::ZERO).unwrap().is_some()
}

fn guardctl() -> Command {
    let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
    command.arg("run");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_before_envoy_ends() {
    let fixture = Fixture::start().await;
    let mut envoy = DrainedEnvoy::start(&fixture.stack, "drained", 60).unwrap();
    let sender = Sender::new(envoy.webhook());
    let events = fixture.events("flight", 1);
    fixture.stack.backend.signal("STOP").unwrap();
    let event = events[0].clone();
    let answer = tokio::spawn(async move { sender.send(&event).await });
    in_flight(&envoy).await;
    envoy.process.signal("TERM").unwrap();
    is_unready(&envoy).await;
    // After the notice period for load balancers, the listener is closed and the request still
    // waits.
    eventually("the listener is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", envoy.edge)).await.is_err()
    })
    .await;
    assert!(!has_ended(&mut envoy) && !answer.is_finished(), "{}", envoy.process.log());
    fixture.stack.backend.signal("CONT").unwrap();
    let answer = answer.await.unwrap();
    assert!(matches!(&answer, Answer::Accepted(key) | Answer::Duplicate(key) if *key == events[0].key), "{answer:?}");
    envoy.ends_well(PATIENCE).unwrap();
    assert!(envoy.process.log().contains("no request is in flight"), "{}", envoy.process.log());
    fixture.delivered_once(1).await;
}

/// Waits until a request is in flight.
async fn in_flight(envoy: &DrainedEnvoy) {
    let url = format!("http://127.0.0.1:{}/stats?filter=http.edge.downstream_rq_active", envoy.admin);
    let client = harness::simulator::sender::client();
    eventually("the request is in flight", async || {
        !client.get(&url).send().await.unwrap().text().await.unwrap().contains("downstream_rq_active: 0")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_two_envoys_behind_a_load_balancer_restart_in_turn() {
    let fixture = Fixture::start().await;
    let mut envoys = [
        DrainedEnvoy::start(&fixture.stack, "one", 30).unwrap(),
        DrainedEnvoy::start(&fixture.stack, "two", 30).unwrap(),
    ];
    let balancer = Balancer::start(envoys.iter().map(DrainedEnvoy::target).collect()).await.unwrap();
    let webhook = format!("{}/webhooks/truenroll", balancer.url());
    eventually("the load balancer uses both", async || {
        ask_several_times(&webhook).await.iter().all(|&status| status == 422)
    })
    .await;
    fixture.sender.change_target(webhook, None);
    let steady = fixture.steady("drained");
    for envoy in &mut envoys {
        let sent = steady.sent();
        eventually("there is traffic", async || steady.sent() > sent + 50).await;
        restart(envoy, &fixture).await;
    }
    fixture.all_accepted_and_delivered(steady).await;
}

/// Sends several requests, each on a connection of its own.
async fn ask_several_times(webhook: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let request = harness::simulator::sender::client().post(webhook).header("content-type", "application/json");
        statuses.push(request.body("{}").send().await.map_or(0, |answer| answer.status().as_u16()));
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_envoy_at_once() {
    let fixture = Fixture::start().await;
    let mut envoy = DrainedEnvoy::start(&fixture.stack, "second", 600).unwrap();
    let sender = Sender::new(envoy.webhook());
    let event = fixture.events("second", 1).remove(0);
    fixture.stack.backend.signal("STOP").unwrap();
    let answer = tokio::spawn(async move { sender.send(&event).await });
    in_flight(&envoy).await;
    envoy.process.signal("TERM").unwrap();
    is_unready(&envoy).await;
    assert!(!has_ended(&mut envoy));
    envoy.process.signal("TERM").unwrap();
    envoy.ends_well(Duration::from_secs(10)).unwrap();
    assert_eq!(answer.await.unwrap(), Answer::Unavailable);
    fixture.stack.backend.signal("CONT").unwrap();
}

#[test]
fn guardctl_exits_with_the_status_of_the_program_it_runs() {
    // `$#` is not 0 if guardctl adds an option that only Envoy knows.
    for (script, expected) in [("exit 7", 7), ("kill -KILL $$", 137), ("exit $#", 0)] {
        let status = guardctl().args(["--", "sh", "-c", script]).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{script}");
    }
    let missing = guardctl().args(["--", "/no/such/envoy"]).output().unwrap();
    assert!(missing.status.code() == Some(1), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/envoy"), "{missing:?}");
}

#[test]
fn envoy_may_open_as_many_files_as_the_system_allows() {
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    let is_raised = r#"[ "$(ulimit -Sn)" = "$(ulimit -Hn)" ]"#;
    let script =
        format!("ulimit -Sn 512; {is_raised} && exit 3; exec {} run -- sh -c '{is_raised}'", guardctl.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Lets guardctl run a shell script, and waits until the script has written a line. The kernel kills
/// the script when guardctl ends.
fn run_script(mut guardctl: Command, script: &str) -> Child {
    guardctl.args(["--", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", script]);
    let mut guardctl = guardctl.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(guardctl.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    guardctl
}

fn signal(guardctl: &Child, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &guardctl.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{signal}");
}

#[test]
fn every_signal_that_stops_guardctl_stops_its_envoy() {
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    for name in ["TERM", "INT", "QUIT", "HUP"] {
        // Whoever runs the tests may ignore SIGHUP, as nohup does.
        let mut reset = Command::new("env");
        reset.arg("--default-signal=HUP").arg(guardctl().get_program()).args(guardctl().get_args());
        let mut guardctl = run_script(reset, script);
        signal(&guardctl, name);
        assert_eq!(guardctl.wait().unwrap().code(), Some(9), "{name}");
    }
    let mut nohup = Command::new("nohup");
    nohup.arg(guardctl().get_program()).args(guardctl().get_args()).stderr(Stdio::null());
    let mut guardctl = run_script(nohup, script);
    signal(&guardctl, "HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(guardctl.try_wait().unwrap(), None, "nohup lets guardctl ignore SIGHUP");
    signal(&guardctl, "TERM");
    assert_eq!(guardctl.wait().unwrap().code(), Some(9));
}

#[test]
fn further_signals_do_not_prolong_the_life_of_an_envoy_that_does_not_stop() {
    let script = "trap '' TERM; echo ready; exec sleep 60";
    let mut guardctl = run_script(guardctl(), script);
    let deadline = Instant::now() + Duration::from_secs(15);
    let status = loop {
        signal(&guardctl, "TERM");
        if let Some(status) = guardctl.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            guardctl.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(status.code(), Some(137), "Envoy is killed");
}

#[test]
fn guardctl_reaps_orphans_when_it_is_process_1() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(tools::workspace_binary("envoy", "guardctl", &[]).unwrap()).args(["run", "--", "sh", "-c"]);
    // When its parent, the inner shell, has ended, process 1 adopts the orphan. It has to appear
    // first, and then be gone.
    let script = "sh -c 'sleep 1 &'; is_there() { grep -qs '^Name:.sleep' /proc/[0-9]*/status; }; \
                  seen=8; for i in $(seq 5000); do is_there && seen=7 && break; done; \
                  for i in $(seq 5000); do is_there || exit $seen; done";
    let output = command.arg(script).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}
