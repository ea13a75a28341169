//! Envoy is drained before it ends: requests in flight finish, and new ones go to another Envoy.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{
    balancer::Balancer,
    process::{Process, free_port},
    simulator::sender::{Answer, Sender},
    tools,
};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// An Envoy beside the stack's own, with the same filter and backend, run by guardctl.
struct Drained {
    process: Process,
    config: PathBuf,
    edge: u16,
    metrics: u16,
    admin: u16,
    drain_seconds: u64,
}

impl Drained {
    fn start(fixture: &Fixture, name: &str, drain_seconds: u64) -> Self {
        let (edge, metrics, admin) = (free_port().unwrap(), free_port().unwrap(), free_port().unwrap());
        let folder = fixture.stack.folder();
        let bootstrap = fs::read_to_string(folder.join("envoy.yaml")).unwrap();
        let ports = [("edge_port", edge), ("metrics_port", metrics), ("admin_port", admin)];
        let bootstrap = ports.iter().fold(bootstrap, |bootstrap, (name, port)| set(&bootstrap, name, *port));
        let config = folder.join(name).with_extension("yaml");
        fs::write(&config, bootstrap).unwrap();
        let process = run(&config, admin, drain_seconds);
        let mut drained = Self { process, config, edge, metrics, admin, drain_seconds };
        drained.wait();
        drained
    }

    fn wait(&mut self) {
        let ready = self.ready();
        let answers = || ureq::get(&ready).call().is_ok();
        self.process.wait_until(PATIENCE, answers).unwrap();
    }

    /// Ends it with SIGTERM while requests are in flight, and starts it again when it has ended.
    async fn restart(&mut self, fixture: &Fixture) {
        fixture.stack.backend.signal("STOP").unwrap();
        in_flight(self).await;
        self.process.signal("TERM").unwrap();
        let client = tests::simulator::sender::client();
        eventually("it is no longer ready", async || {
            client.get(self.ready()).send().await.map_or(true, |answer| answer.status() != 200)
        })
        .await;
        fixture.stack.backend.signal("CONT").unwrap();
        tokio::task::block_in_place(|| {
            self.ends_well(Duration::from_secs(60));
            self.process = run(&self.config, self.admin, self.drain_seconds);
            self.wait();
        });
    }

    fn ready(&self) -> String {
        format!("http://127.0.0.1:{}/ready", self.metrics)
    }

    fn target(&self) -> (SocketAddr, String) {
        (SocketAddr::from(([127, 0, 0, 1], self.edge)), self.ready())
    }

    fn webhook(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks/truenroll", self.edge)
    }

    async fn is_unready(&self) {
        let client = tests::simulator::sender::client();
        eventually("it is no longer ready", async || {
            let answer = client.get(self.ready()).send().await;
            answer.is_ok_and(|answer| answer.status() == 503)
        })
        .await;
    }

    fn ends_well(&mut self, patience: Duration) {
        let status = self.process.wait(patience).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", self.process.log());
    }

    fn has_ended(&mut self) -> bool {
        self.process.wait(Duration::ZERO).unwrap().is_some()
    }
}

fn set(bootstrap: &str, name: &str, value: u16) -> String {
    let mark = format!(" # set: {name}");
    let lines = bootstrap.lines().map(|line| match line.strip_suffix(&mark).and_then(|line| line.rsplit_once(": ")) {
        Some((key, old)) => format!("{key}: {value}{}{mark}\n", if old.ends_with(" }") { " }" } else { "" }),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn guardctl() -> Command {
    let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
    command.arg("run");
    command
}

fn run(config: &Path, admin: u16, drain_seconds: u64) -> Process {
    let mut command = guardctl();
    command.args(["--notice-seconds", "2", "--drain-seconds", &drain_seconds.to_string()]);
    command.arg("--admin").arg(format!("http://127.0.0.1:{admin}")).arg("--");
    // Envoy ends with guardctl, also where the test itself is killed.
    command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(tools::envoy().unwrap()).arg("-c").arg(config);
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    Process::start("guardctl", &mut command, &config.with_extension("log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_before_envoy_ends() {
    let fixture = Fixture::start().await;
    let mut envoy = Drained::start(&fixture, "drained", 60);
    let sender = Sender::new(envoy.webhook());
    let events = fixture.events("flight", 1);
    fixture.stack.backend.signal("STOP").unwrap();
    let event = events[0].clone();
    let answer = tokio::spawn(async move { sender.send(&event).await });
    in_flight(&envoy).await;
    envoy.process.signal("TERM").unwrap();
    envoy.is_unready().await;
    // Past the time for load balancers, the listener is closed and the request still waits.
    eventually("the listener is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", envoy.edge)).await.is_err()
    })
    .await;
    assert!(!envoy.has_ended() && !answer.is_finished(), "{}", envoy.process.log());
    fixture.stack.backend.signal("CONT").unwrap();
    let answer = answer.await.unwrap();
    assert!(matches!(&answer, Answer::Accepted(key) | Answer::Duplicate(key) if *key == events[0].key), "{answer:?}");
    envoy.ends_well(PATIENCE);
    assert!(envoy.process.log().contains("no request is in flight"), "{}", envoy.process.log());
    fixture.delivered_once(1).await;
}

/// Waits until a request is in flight.
async fn in_flight(envoy: &Drained) {
    let url = format!("http://127.0.0.1:{}/stats?filter=http.edge.downstream_rq_active", envoy.admin);
    let client = tests::simulator::sender::client();
    eventually("the request is in flight", async || {
        !client.get(&url).send().await.unwrap().text().await.unwrap().contains("downstream_rq_active: 0")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_envoys_behind_a_load_balancer_each_is_restarted_and_nothing_is_rejected() {
    let fixture = Fixture::start().await;
    let mut envoys = [Drained::start(&fixture, "one", 30), Drained::start(&fixture, "two", 30)];
    let balancer = Balancer::start(envoys.iter().map(Drained::target).collect()).await.unwrap();
    let webhook = format!("{}/webhooks/truenroll", balancer.url());
    eventually("both are in the balancer's rotation", async || {
        ask_several_times(&webhook).await.iter().all(|&status| status == 422)
    })
    .await;
    fixture.sender.change_target(webhook, None);
    let steady = fixture.steady("drained");
    for envoy in &mut envoys {
        let sent = steady.sent();
        eventually("there is traffic", async || steady.sent() > sent + 50).await;
        envoy.restart(&fixture).await;
    }
    fixture.all_accepted_and_delivered(steady).await;
}

/// Asks several times over connections of their own.
async fn ask_several_times(webhook: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let request = tests::simulator::sender::client().post(webhook).header("content-type", "application/json");
        statuses.push(request.body("{}").send().await.map_or(0, |answer| answer.status().as_u16()));
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_envoy_at_once() {
    let fixture = Fixture::start().await;
    let mut envoy = Drained::start(&fixture, "second", 600);
    let (sender, event) = (Sender::new(envoy.webhook()), fixture.events("second", 1).remove(0));
    fixture.stack.backend.signal("STOP").unwrap();
    let answer = tokio::spawn(async move { sender.send(&event).await });
    in_flight(&envoy).await;
    envoy.process.signal("TERM").unwrap();
    envoy.is_unready().await;
    assert!(!envoy.has_ended());
    envoy.process.signal("TERM").unwrap();
    envoy.ends_well(Duration::from_secs(10));
    assert_eq!(answer.await.unwrap(), Answer::Unavailable);
    fixture.stack.backend.signal("CONT").unwrap();
}

#[test]
fn guardctl_ends_with_the_status_of_what_it_runs() {
    for (script, expected) in [("exit 7", 7), ("kill -KILL $$", 137), ("exit 0", 0)] {
        let status = guardctl().args(["--", "sh", "-c", script]).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{script}");
    }
    let missing = guardctl().args(["--", "/no/such/envoy"]).output().unwrap();
    assert!(missing.status.code() == Some(1), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/envoy"), "{missing:?}");
}

#[test]
fn as_process_1_guardctl_leaves_no_zombies() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(tools::workspace_binary("envoy", "guardctl", &[]).unwrap()).args(["run", "--", "sh", "-c"]);
    // The orphan is process 1's when its parent, the inner shell, has ended.
    let script =
        "sh -c 'sleep 0.1 &'; for i in $(seq 5000); do grep -qs '^Name:.sleep' /proc/[0-9]*/status || exit 7; done";
    let output = command.arg(script).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}
