//! `backend tail`: what it prints, and what a restart of Redis makes of it.

use std::{fs, path::Path};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{backend_settings::BackendSettings, process::Process};
use serde_json::Value;

use crate::{
    events::{fail, has_state},
    fixture::{Fixture, eventually},
};

const AT: &str = "2025-06-22T10:30:00Z";

/// The keys of the events that a running `backend tail` has printed, and what happened to them.
fn followed(file: &Path) -> Vec<(String, String)> {
    let printed = fs::read_to_string(file).unwrap();
    let lines = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.map(|line| (text(&line, "eventKey"), text(&line, "happened"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_survives_a_restart_of_redis() {
    let mut fixture = Fixture::start().await;
    let event = |fixture: &Fixture, number: usize| {
        fixture.event(&format!("tail-{number}"), Feature::Extraction, Stage::Completed, AT)
    };
    let earlier = event(&fixture, 0);
    fixture.send_accepted(&earlier).await;
    has_state(&fixture, &earlier.key, "completed").await;

    let start = |fixture: &Fixture, name: &'static str, arguments: &[&str]| {
        let mut command = fixture.stack.backend_process(arguments, &BackendSettings::default()).unwrap();
        let file = fixture.stack.folder().join(name);
        (Process::start(name, &mut command, &file).unwrap(), file)
    };
    let (mut tail, all) = start(&fixture, "tail", &["tail", "--since", "2020-01-01T00:00:00Z"]);
    let (mut filtered, forensics) = start(&fixture, "filtered", &["tail", "--feature", "forensics"]);
    eventually("the earlier event is printed", async || followed(&all).len() == 1).await;
    let mut expected = vec![(earlier.key, "completed".to_owned())];
    // It prints only what happens after it has started.
    eventually("the other one has started", async || {
        let case = format!("start-{}", expected.len());
        let event = fixture.event(&case, Feature::Forensics, Stage::Completed, AT);
        fixture.send_accepted(&event).await;
        expected.push((event.key, "completed".to_owned()));
        !followed(&forensics).is_empty()
    })
    .await;
    for number in 1..10 {
        let event = event(&fixture, number);
        fixture.send_accepted(&event).await;
        expected.push((event.key, "completed".to_owned()));
        if number == 5 {
            fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();
            eventually("both wait for Redis", async || {
                [&all, &forensics].iter().all(|file| fs::read_to_string(file).unwrap().contains("waiting for Redis"))
            })
            .await;
            fixture.stack.start_redis().unwrap();
        }
    }
    eventually("every event is completed", async || followed(&all).len() == expected.len()).await;
    fail(&fixture, StatusCode::GONE, 1);
    let dead = fixture.event("tail-dead", Feature::Forensics, Stage::Completed, AT);
    fixture.send_accepted(&dead).await;
    let of_dead = [(dead.key, "deadLettered".to_owned())];
    eventually("the other one prints what it is to follow", async || {
        let followed = followed(&forensics);
        assert!(followed.iter().all(|(key, _)| key.starts_with("case.forensics.")), "{followed:?}");
        followed.last() == of_dead.last()
    })
    .await;
    expected.extend(of_dead);
    expected.sort();
    let mut found = Vec::new();
    eventually("every event is printed", async || {
        found = followed(&all);
        found.len() >= expected.len()
    })
    .await;
    found.sort();
    assert_eq!(found, expected, "each one once");
    tail.kill().unwrap();
    filtered.kill().unwrap();
}
