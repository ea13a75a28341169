//! The first start of this version on a store that the previous one has left: `tests/stores`.

use std::{collections::BTreeMap, fs, time::SystemTime};

use envelope::Feature;
use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    keys,
    redis_server::{FSYNC, RedisOptions, RedisServer},
    simulator::{Simulator, sender::Answer},
    stack::Options,
    stored::{self, Scenario},
};
use serde_json::json;

use crate::fixture::{Fixture, eventually};

/// The recording of the previous format.
const PREVIOUS: &str = include_str!("../../stores/format-0.aof");

/// Starts Redis on a recorded store.
fn redis_on(recording: &str) -> (RedisServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("redis");
    fs::create_dir(&data).unwrap();
    // Redis takes over a file of this name at its first start.
    fs::write(data.join("appendonly.aof"), stored::at(recording, SystemTime::now()).unwrap()).unwrap();
    let mut options = RedisOptions::with(&FSYNC);
    options.folder = Some(data);
    (RedisServer::start(options).unwrap(), folder)
}

/// The keys of the delivered events of each lane, in the order of delivery.
fn delivered_by_lane(fixture: &Fixture) -> BTreeMap<(String, String), Vec<String>> {
    let mut lanes = BTreeMap::<_, Vec<_>>::new();
    for delivery in fixture.simulator.application.deliveries() {
        lanes.entry(delivery.lane).or_default().push(delivery.key);
    }
    lanes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_previous_version_stored_is_handled_replayed_readmitted_and_recognized() {
    let (redis, _folder) = redis_on(PREVIOUS);
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await.unwrap();
    Scenario::begin(&simulator.world).unwrap();
    let scenario = Scenario::events(&simulator.world).unwrap();
    scenario.finish_all(&simulator.world).unwrap();
    let fixture = Fixture::beside(simulator, |options| {
        let options =
            Options { redis_url: Some(redis.url()), policy: json!({ "unknown_events": "quarantine" }), ..options };
        // The recorded dead letters and quarantined events may be older than the default of 90 days.
        options.backend("redis.unhandled_retention_days", 0).backend("reconciler.grace_s", 0)
    });
    let command = |arguments: &[&str]| fixture.stack.backend_command(arguments).unwrap();
    for keys in keys::of_all_partitions() {
        assert_eq!(redis.ask::<String>(&["HGET", &keys.format(), "format"]).unwrap(), "1");
    }

    // What waited is handled in order; what was paused is not, until it is resumed.
    let waiting = scenario.waiting.len() + 1;
    fixture.delivered_once(waiting).await;
    command(&["resume", "translation"]);
    let mut total = waiting + scenario.paused.len();
    fixture.delivered_once(total).await;
    let mut expected = BTreeMap::<_, Vec<_>>::new();
    for event in scenario.waiting.iter().chain(&scenario.paused) {
        let lane = (event.case.clone(), event.name.feature.to_string());
        expected.entry(lane).or_default().push(event.key.clone());
    }
    let mut lanes = delivered_by_lane(&fixture);
    let backfilled_lane = (scenario.backfilled_waiting.case.clone(), Feature::Classification.to_string());
    assert_eq!(lanes.remove(&backfilled_lane).map(|keys| keys.len()), Some(1));
    assert_eq!(lanes, expected);
    let deliveries = fixture.simulator.application.deliveries();
    let backfilled: Vec<_> = deliveries.iter().filter(|delivery| delivery.body["backfilled"] == true).collect();
    assert!(backfilled.len() == 1 && backfilled[0].lane == backfilled_lane, "{backfilled:?}");

    // Whatever arrives again is recognized, and so are the originals of backfilled events.
    let known = [&scenario.completed, &scenario.waiting, &scenario.paused].into_iter().flatten();
    for event in known.chain([&scenario.backfilled, &scenario.backfilled_waiting]) {
        assert_eq!(fixture.sender.send(event).await, Answer::Duplicate(event.key.clone()));
    }
    assert!(matches!(fixture.sender.send(&scenario.undocumented).await, Answer::Duplicate(_)));

    // One dead letter is replayed, the other one revived by its redelivery.
    let [replayed, revived] = &scenario.dead[..] else { panic!("two dead letters were recorded") };
    let listed = command(&["dead", "--code", "sink_rejected"]);
    assert!(listed.contains(&replayed.key) && listed.contains(&revived.key), "{listed}");
    assert_eq!(command(&["replay", "--key", &replayed.key]), "replayed 1 dead letter\n");
    fixture.send_accepted(revived).await;
    total += 2;
    fixture.delivered_once(total).await;
    assert_eq!(command(&["dead"]), "");

    assert_eq!(command(&["quarantine"]).lines().count(), 2);
    assert_eq!(command(&["readmit"]), "readmitted 1 event; left 1 event that this version does not know\n");
    total += 1;
    fixture.delivered_once(total).await;

    // The reconciler knows what was received, assumed to be received, and missing.
    let said = command(&["reconcile"]);
    assert!(said.ends_with(" 1 event backfilled, 0 within the grace period, 0 assumed received\n"), "{said}");
    total += 1;
    fixture.delivered_once(total).await;
    assert_eq!(fixture.sender.send(&scenario.missing).await, Answer::Duplicate(scenario.missing.key.clone()));
    eventually("only this backend counts as working", async || {
        let members: u64 = redis.ask(&["ZCARD", &keys::keys().members()]).unwrap();
        members == 1
    })
    .await;
    fixture.nothing_left_over().await;
}
