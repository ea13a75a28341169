//! What the tests share: a stack with a simulator, and waiting for a condition.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use backend::test_support::config::Config;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, BackendSettings, SINK_SECRET},
    keys,
    outcomes::Contract,
    redis_server::{RedisOptions, RedisServer},
    simulator::{
        Simulator,
        application::Application,
        sender::{Answer, Sender},
        steady::{Report, Steady},
        world::Event,
    },
    stack::{Options, Stack},
};
use tokio::time::{Instant, sleep};

/// A running stack, and the programs that talk to it.
pub(crate) struct Fixture {
    pub(crate) simulator: Simulator,
    pub(crate) sender: Arc<Sender>,
    pub(crate) stack: Stack,
    /// Dropped last.
    _contract: Held,
}

/// Fails a test in which the application received what `docs/outcomes.openapi.yaml` does not allow.
struct Held(Arc<Mutex<Option<String>>>);

impl Held {
    /// Holds what the application receives from now on against the description.
    fn by(application: &Application) -> Self {
        static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::start().unwrap());
        let first = Arc::<Mutex<Option<String>>>::default();
        let violation = Arc::clone(&first);
        application.hold_against(Box::new(move |headers, body| {
            CONTRACT.check(headers, body).map_err(|error| {
                let error = error.to_string();
                violation.lock().unwrap().get_or_insert_with(|| error.clone());
                error
            })
        }));
        Self(first)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let violation = self.0.lock().unwrap().take();
        match violation {
            Some(violation) if std::thread::panicking() => println!("{violation}"),
            Some(violation) => panic!("{violation}"),
            None => {}
        }
    }
}

/// How long an expected event may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(Options) -> Options) -> Self {
        Self::beside(Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await.unwrap(), change)
    }

    /// Starts a stack beside a simulator that already runs.
    pub(crate) fn beside(simulator: Simulator, change: impl FnOnce(Options) -> Options) -> Self {
        let _contract = Held::by(&simulator.application);
        let options =
            Options::new(simulator.url()).backend("worker.backoff_base_ms", 20).backend("worker.backoff_cap_ms", 500);
        let stack = Stack::start(change(options)).unwrap();
        let sender = Arc::new(Sender::new(stack.webhook()));
        Self { simulator, sender, stack, _contract }
    }

    /// Finishes a stage of a case, which is created with one upload for all features, and returns
    /// the event.
    pub(crate) fn event(&self, case: &str, feature: Feature, stage: Stage, at: &str) -> Event {
        if self.simulator.world.finish(case, feature, stage, at).is_none() {
            self.simulator.world.upload(case, Some("applicant-1"), &Feature::ALL);
        }
        self.simulator.world.finish(case, feature, stage, at).unwrap()
    }

    /// Returns one event of each of `count` cases, for the four features in turn.
    pub(crate) fn events(&self, name: &str, count: usize) -> Vec<Event> {
        (0..count)
            .map(|number| {
                let feature = Feature::ALL[number % 4];
                self.event(&format!("{name}-{number}"), feature, Stage::Completed, "2025-06-22T10:30:00Z")
            })
            .collect()
    }

    pub(crate) async fn send_accepted(&self, event: &Event) {
        assert_eq!(self.sender.send(event).await, Answer::Accepted(event.key.clone()));
    }

    /// Starts to send 50 events per second, without retries.
    pub(crate) fn steady(&self, name: &str) -> Steady {
        Steady::start(&self.simulator.world, &self.sender, name, 50)
    }

    /// Stops the steady sender, asserts that every event was accepted, and waits until all are
    /// delivered.
    pub(crate) async fn all_accepted_and_delivered(&self, steady: Steady) -> Report {
        let report = steady.stop().await.unwrap();
        let rejected = &report.undeserved;
        let first = &rejected[..rejected.len().min(3)];
        assert!(
            rejected.is_empty(),
            "{} of {} events were not accepted, first: {first:?}",
            rejected.len(),
            report.sent
        );
        eventually("every accepted event is delivered", async || {
            let delivered: HashSet<_> =
                self.simulator.application.deliveries().into_iter().map(|delivery| delivery.key).collect();
            report.accepted.iter().all(|key| delivered.contains(key))
        })
        .await;
        report
    }

    /// Waits until `events` different events were delivered, and asserts that none was delivered
    /// twice.
    pub(crate) async fn delivered_once(&self, events: usize) {
        self.delivered(events).await;
        assert_eq!(self.simulator.application.counts(), (events as u64, 0));
    }

    /// Waits until `events` different events were delivered.
    pub(crate) async fn delivered(&self, events: usize) {
        eventually("every event is delivered", async || {
            let (delivered, _) = self.simulator.application.counts();
            assert_eq!(self.simulator.application.complaints(), [""; 0]);
            delivered == events as u64
        })
        .await;
    }

    /// The number of dead letters by code, from the backend's metrics.
    pub(crate) async fn dead_letters(&self) -> Vec<(String, u64)> {
        let metrics = self.stack.backend_metrics().await.unwrap();
        metrics.by_label("truenroll_backend_dead_letters_total", "code").into_iter().collect()
    }

    /// Runs a command in Redis.
    pub(crate) fn redis<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(self.stack.redis_url()).unwrap();
        command.query(&mut client.get_connection().unwrap()).unwrap()
    }

    /// Waits until the inbox is empty, and asserts that no attempts are left.
    pub(crate) async fn nothing_left_over(&self) {
        let client = redis::Client::open(self.stack.redis_url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for (keys, feature) in
            keys::of_all_partitions().flat_map(|keys| Feature::ALL.map(|feature| (keys.clone(), feature)))
        {
            let inbox = keys.inbox(feature);
            let attempts = keys.attempts(feature);
            eventually("the inbox is empty", async || {
                let depth: u64 = redis::cmd("XLEN").arg(&inbox).query_async(&mut connection.clone()).await.unwrap();
                depth == 0
            })
            .await;
            let attempted: u64 = redis::cmd("HLEN").arg(&attempts).query_async(&mut connection).await.unwrap();
            assert_eq!(attempted, 0, "{attempts}");
        }
    }
}

/// Starts a Redis server with these command-line options.
pub(crate) fn redis(settings: &[&str]) -> RedisServer {
    RedisServer::start(RedisOptions::with(settings)).unwrap()
}

/// The configuration of a backend, or a part of one, that runs within a test. It shares the Redis
/// server at `redis_url` with other backends, but none of their keys.
pub(crate) fn config(redis_url: &str) -> Config {
    BackendSettings::usual(0, 0)
        .with("redis.url", redis_url)
        .with("redis.prefix", IN_PROCESS_PREFIX)
        .with("redis.partitions", 1)
        .config()
        .unwrap()
}

/// The prefix of the keys of a backend that runs within a test.
pub(crate) const IN_PROCESS_PREFIX: &str = "in-process";

/// Waits until `condition` is true. `what` describes it for the panic message.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The highest resident memory that a process ever had, in bytes.
pub(crate) fn peak(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
