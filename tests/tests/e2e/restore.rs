//! The restore drill of docs/OPERATIONS.md: a copy of the append-only file that was made under load
//! is restored after everything in Redis was lost.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{Feature, Stage};
use harness::simulator::{
    application::Delivery,
    sender::{Answer, Sender},
    world::{Event, World},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{Fixture, PATIENCE, eventually},
    reconciler::{now, rfc3339},
};

/// Sends about 50 events per second, each of a case of its own whose stage finishes just then.
struct Load {
    stop: CancellationToken,
    task: JoinHandle<Vec<Event>>,
}

impl Load {
    fn start(fixture: &Fixture) -> Self {
        let stop = CancellationToken::new();
        let (world, sender, stopped) = (fixture.simulator.world.clone(), fixture.sender.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while !stopped.is_cancelled() {
                let feature = [Feature::Classification, Feature::Forensics][accepted.len() % 2];
                accepted.push(send(&world, &sender, &format!("load-{}", accepted.len()), feature).await);
                sleep(Duration::from_millis(20)).await;
            }
            accepted
        });
        Self { stop, task }
    }

    async fn stop(self) -> Vec<Event> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

async fn send(world: &World, sender: &Arc<Sender>, case: &str, feature: Feature) -> Event {
    world.upload(case, None, &[feature]);
    let event = world.finish(case, feature, Stage::Completed, &now()).unwrap();
    assert_eq!(sender.send(&event).await, Answer::Accepted(event.key.clone()));
    event
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

/// The deliveries of each case.
fn by_case(fixture: &Fixture) -> BTreeMap<String, Vec<Delivery>> {
    let mut cases = BTreeMap::<_, Vec<_>>::new();
    for delivery in fixture.simulator.application.deliveries() {
        cases.entry(delivery.lane.0.clone()).or_default().push(delivery);
    }
    cases
}

fn is_backfilled(delivery: &Delivery) -> bool {
    delivery.body["backfilled"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_and_a_round_of_the_reconciler_no_event_is_lost() {
    let mut fixture = Fixture::start_with(|options| options.backend("reconciler.grace_s", 0)).await;
    let (world, sender) = (fixture.simulator.world.clone(), fixture.sender.clone());
    let send_all = async |name: &str, feature: Feature| {
        let mut events = Vec::new();
        for number in 0..5 {
            events.push(send(&world, &sender, &format!("{name}-{number}"), feature).await);
        }
        events
    };
    let command = |fixture: &Fixture, arguments: &[&str]| fixture.stack.backend_command(arguments).unwrap();
    command(&fixture, &["reconcile"]);
    let completed = send_all("completed", Feature::Forensics).await;
    fixture.delivered_once(completed.len()).await;
    command(&fixture, &["pause", "extraction"]);
    let pending = send_all("pending", Feature::Extraction).await;

    // The copy, under load, as the page says.
    let load = Load::start(&fixture);
    let delivered = async |more: u64| {
        let before = fixture.simulator.application.counts().0;
        eventually("the load is handled", async || fixture.simulator.application.counts().0 >= before + more).await;
    };
    delivered(10).await;
    let redis = fixture.stack.redis.as_ref().unwrap();
    let data = fixture.stack.folder().join("redis/appendonlydir");
    let backup = fixture.stack.folder().join("backup-appendonlydir");
    redis.ask::<()>(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"]).unwrap();
    eventually("no rewrite of the append-only file is in progress", async || {
        redis.ask::<String>(&["INFO", "persistence"]).unwrap().contains("aof_rewrite_in_progress:0")
    })
    .await;
    let before_copy: HashSet<_> =
        fixture.simulator.application.deliveries().into_iter().map(|delivery| delivery.lane.0).collect();
    // An event that was sent before the copy may arrive after it.
    let since = rfc3339(SystemTime::now() - Duration::from_secs(3_600));
    copy(&data, &backup);
    redis.ask::<()>(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "100"]).unwrap();

    // What happens between the copy and the loss.
    command(&fixture, &["resume", "extraction"]);
    delivered(10 + pending.len() as u64).await;
    let mut accepted = load.stop().await;
    fixture.delivered_once(completed.len() + pending.len() + accepted.len()).await;
    command(&fixture, &["pause", "translation"]);
    let unhandled = send_all("unhandled", Feature::Translation).await;
    accepted.extend(completed.into_iter().chain(pending.iter().cloned()).chain(unhandled));

    // The loss, and the restore.
    fixture.stack.backend.stop(PATIENCE).unwrap();
    fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    fixture.stack.start_redis().unwrap();
    fixture.stack.start_backend().unwrap();
    command(&fixture, &["reconcile", "--since", &since]);
    command(&fixture, &["resume", "extraction"]);

    eventually("each event is delivered, and those that were in the copy's inbox once more", async || {
        let cases = by_case(&fixture);
        accepted.iter().all(|event| cases.contains_key(&event.case))
            && pending.iter().all(|event| cases[&event.case].len() == 2)
    })
    .await;
    fixture.nothing_left_over().await;
    assert_eq!(fixture.simulator.application.complaints(), [""; 0]);
    let cases = by_case(&fixture);
    let mut backfilled = 0;
    for event in &accepted {
        let deliveries = &cases[&event.case];
        assert!(deliveries.len() <= 2, "{deliveries:?}");
        // Delivered again with the same key, or marked as backfilled.
        assert!(deliveries.iter().all(|one| one.key == event.key || is_backfilled(one)), "{deliveries:?}");
        if before_copy.contains(&event.case) {
            assert!(!deliveries.iter().any(is_backfilled), "it was in the copy: {deliveries:?}");
        }
        backfilled += deliveries.iter().filter(|one| is_backfilled(one)).count();
    }
    assert!(pending.iter().all(|event| !cases[&event.case].iter().any(is_backfilled)));
    assert!(backfilled >= 15, "five unhandled events and the load after the copy: {backfilled}");
    let said = command(&fixture, &["reconcile", "--since", &since]);
    assert!(said.contains(": 0 events backfilled"), "a second round backfills nothing: {said}");
}
