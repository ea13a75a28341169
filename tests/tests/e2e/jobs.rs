//! The jobs of the console: readmissions, and what a stop of the backend makes of a job.

use std::time::Duration;

use envelope::Feature;
use harness::keys;
use reqwest::StatusCode;

use crate::{
    console::{WithConsole, hidden, quarantine},
    dead_letters::become_dead,
    fixture::eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_readmission_leaves_alone_what_arrived_after_the_preview() {
    let console = WithConsole::start().await;
    let fixture = &console.fixture;
    assert!(console.page("/quarantine").await.contains("There are no events in quarantine"));
    let events = fixture.events("quarantined", 4);
    for (partition, event) in events.iter().take(2).enumerate() {
        quarantine(fixture, partition as u32, &event.key, &event.body);
    }
    let unknown = events[0].body.replace("classification", "<script>alert(1)</script>");
    quarantine(fixture, 5, "unknown.1:case:2025-06-22T10:30:00Z", &unknown);
    eventually("the page shows all of them", async || console.page("/quarantine").await.contains("3 events")).await;
    let page = console.page("/quarantine").await;
    assert!(page.contains("knows it") && page.contains("does not know it"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)") && !page.contains("<script>alert"), "{page}");
    assert!(!page.contains("applicant-1"), "the page shows an externalId");

    for (partition, event) in events.iter().enumerate().skip(2) {
        quarantine(fixture, partition as u32, &event.key, &event.body);
    }
    let form = format!("until_ms={}&total={}", hidden(&page, "until_ms"), hidden(&page, "total"));
    let answer = console.post("/quarantine/readmit", &form).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers()["location"].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/quarantine")
    );
    fixture.delivered_once(2).await;
    let job = async || console.json("/api/v1/quarantine").await["job"].clone();
    eventually("the readmission has ended", async || job().await["state"] == "completed").await;
    let expected = serde_json::json!({
        "what": "readmission", "by": "anybody on this machine", "done": 3, "total": 3, "state": "completed",
        "result": "readmitted 2 events; left 1 event that this version does not know",
    });
    assert_eq!(job().await, expected);
    eventually("the two later ones are still there", async || console.json("/api/v1/quarantine").await["total"] == 3)
        .await;
    assert_eq!(fixture.simulator.application.counts(), (2, 0));
    let log = fixture.stack.backend.log();
    assert!(log.contains("readmission started in the console") && log.contains("anybody on this machine"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readmission_runs_once_and_can_be_cancelled() {
    let console = WithConsole::start().await;
    let event = console.fixture.events("unknown", 1).remove(0);
    let unknown = event.body.replace("classification", "verification");
    let client = redis::Client::open(console.fixture.stack.redis_url()).unwrap();
    let mut commands = redis::pipe();
    let count = 20_000;
    for number in 0..count {
        let key = keys::of_partition(number % 16).quarantine();
        commands.cmd("XADD").arg(key).arg("*").arg("key").arg("unknown.1").arg("body").arg(&unknown).ignore();
    }
    let () = commands.query(&mut client.get_connection().unwrap()).unwrap();
    let state = async || console.json("/api/v1/quarantine").await["job"]["state"].clone();
    let form = format!("until_ms={}&total={count}", u64::MAX);
    console.post("/quarantine/readmit", &form).send().await.unwrap();
    let (second, cancelled) =
        tokio::join!(console.post("/quarantine/readmit", &form).send(), console.post("/quarantine/cancel", "").send());
    // Unless the cancellation came first.
    assert!(matches!(second.unwrap().status(), StatusCode::CONFLICT | StatusCode::SEE_OTHER));
    assert_eq!(cancelled.unwrap().status(), StatusCode::SEE_OTHER);
    eventually("no readmission is running", async || state().await != "running").await;
    let page = console.page("/quarantine").await;
    assert!(page.contains("100 of 20,000 events"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cancels_a_replay_and_waits_for_its_end() {
    let mut console = WithConsole::start().await;
    become_dead(&console, "dead", Feature::Extraction, 3).await;
    let page = console.page("/dead-letters").await;
    let until = hidden(&page, "until_ms");
    let form = format!("feature=&code=&case=&until_ms={until}&total=3&rate=1");
    console.post("/dead-letters/replay", &form).send().await.unwrap();
    eventually("an event is replayed", async || console.json("/api/v1/dead-letters").await["job"]["done"] == 1).await;
    let started = std::time::Instant::now();
    console.fixture.stack.stop_backends().unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let log = console.fixture.stack.backend.log();
    let ended = log.lines().find(|line| line.contains("replay ended")).unwrap_or_default();
    assert!(ended.contains("replayed ") && ended.contains(" dead letter"), "{log}");
}
