//! What the commands say about events: their states, their stories, and what is not found.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{backend_settings::BackendSettings, simulator::sender::Answer, stack::Options};
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

/// Runs a command and returns the lines of JSON that it prints.
fn lines(fixture: &Fixture, arguments: &[&str]) -> Vec<Value> {
    let printed = fixture.stack.backend_command(arguments).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the events and their states, as `backend events` lists them.
pub(crate) fn states(fixture: &Fixture, arguments: &[&str]) -> Vec<(String, String)> {
    let events = lines(fixture, &[&["events"], arguments].concat());
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events.iter().map(|event| (text(event, "eventKey"), text(event, "state"))).collect()
}

/// Waits until an event has the state.
pub(crate) async fn has_state(fixture: &Fixture, key: &str, state: &str) {
    eventually(&format!("{key} is {state}"), async || {
        states(fixture, &["--key", key]) == [(key.to_owned(), state.to_owned())]
    })
    .await;
}

/// Returns the story of one event.
fn story(fixture: &Fixture, key: &str) -> Value {
    let mut stories = lines(fixture, &["show", key]);
    assert_eq!(stories.len(), 1, "{stories:?}");
    stories.remove(0)
}

/// Returns what happened to an event, oldest first.
fn happened(story: &Value) -> Vec<&str> {
    story["timeline"].as_array().unwrap().iter().map(|step| step["happened"].as_str().unwrap()).collect()
}

pub(crate) fn fail(fixture: &Fixture, status: StatusCode, times: usize) {
    fixture.simulator.application.fail_next(vec![(status, Duration::ZERO); times]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_listed_with_its_state_and_can_be_shown() {
    let policy = json!({ "unknown_events": "quarantine" });
    let fixture = Fixture::start_with(|options| Options { policy, ..options }).await;
    let event = |case, feature| fixture.event(case, feature, Stage::Completed, AT);

    fail(&fixture, StatusCode::SERVICE_UNAVAILABLE, 1);
    let completed = event("completed", Feature::Extraction);
    fixture.send_accepted(&completed).await;
    has_state(&fixture, &completed.key, "completed").await;

    fail(&fixture, StatusCode::GONE, 1);
    let dead = event("dead", Feature::Translation);
    fixture.send_accepted(&dead).await;
    has_state(&fixture, &dead.key, "dead").await;

    let mut unknown = event("unknown", Feature::Classification);
    unknown.body = unknown.body.replace("classification", "verification");
    let Answer::Quarantined(quarantined) = fixture.sender.send(&unknown).await else { panic!("not quarantined") };

    fixture.stack.backend_command(&["pause", "forensics"]).unwrap();
    let pending = event("waits", Feature::Forensics);
    fixture.send_accepted(&pending).await;

    fail(&fixture, StatusCode::SERVICE_UNAVAILABLE, 10_000);
    let retrying = event("waits", Feature::Extraction);
    fixture.send_accepted(&retrying).await;
    has_state(&fixture, &retrying.key, "retrying").await;
    let behind = fixture.event("waits", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:01Z");
    fixture.send_accepted(&behind).await;

    let key = |event: &harness::simulator::world::Event| event.key.clone();
    let expected = [
        (key(&behind), "pending"),
        (key(&retrying), "retrying"),
        (key(&pending), "pending"),
        (quarantined.clone(), "quarantined"),
        (key(&dead), "dead"),
        (key(&completed), "completed"),
    ];
    let expected = expected.map(|(key, state)| (key, state.to_owned()));
    assert_eq!(states(&fixture, &[]), expected, "the one that changed last comes first");
    for (arguments, selected) in [
        (&["--state", "dead"][..], &expected[4..5]),
        (&["--state", "retrying"], &expected[1..2]),
        (&["--state", "quarantined"], &expected[3..4]),
        (&["--case", "waits"], &expected[..3]),
        (&["--case", "waits", "--feature", "forensics"], &expected[2..3]),
        (&["--code", "sink_rejected", "--feature", "translation"], &expected[4..5]),
        (&["--until", "2020-01-01T00:00:00Z"], &[]),
        (&["--since", "2999-01-01T00:00:00Z"], &[]),
    ] {
        assert_eq!(states(&fixture, arguments), selected, "{arguments:?}");
    }
    pages_are_complete(&fixture, &[], 2, &expected.each_ref());

    let of = story(&fixture, &completed.key);
    assert_eq!((&of["outcome"], &of["attempts"]), (&json!("result"), &json!(2)), "{of}");
    assert_eq!((happened(&of), &of["error"]["code"]), (vec!["received", "completed"], &json!("sink_rejected")));
    let of = story(&fixture, &dead.key);
    assert_eq!(happened(&of), ["received", "failed", "deadLettered"], "{of}");
    let of = story(&fixture, &quarantined);
    assert_eq!(
        (&of["state"], &of["eventName"]),
        (&json!("quarantined"), &json!("case.verification.completed")),
        "{of}"
    );
    for (event, waits_for, waits_for_event) in [
        (&pending, json!("resume"), json!(null)),
        (&retrying, json!("retry"), json!(null)),
        (&behind, json!("earlierEvent"), json!(retrying.key)),
    ] {
        let of = story(&fixture, &event.key);
        assert_eq!((&of["waitsFor"], &of["waitsForEvent"]), (&waits_for, &waits_for_event), "{of}");
    }
    let of = story(&fixture, &retrying.key);
    assert!(of["nextAttemptAtMs"].is_u64() && of["timeline"][1]["count"].as_u64() >= Some(1), "{of}");
    assert_eq!(of["timeline"][1]["detail"], "the application answered 503 instead of 2xx", "{of}");

    let of_case: Vec<_> = lines(&fixture, &["show", "waits"]).iter().map(|of| of["eventKey"].clone()).collect();
    assert_eq!(of_case, [json!(pending.key), json!(retrying.key), json!(behind.key)]);
}

/// Checks that pages of `limit` events, one after the other, list each of the events once.
pub(crate) fn pages_are_complete(fixture: &Fixture, filter: &[&str], limit: usize, expected: &[&(String, String)]) {
    let limit = limit.to_string();
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let mut arguments = [&["events", "--limit", &limit], filter].concat();
        arguments.extend(cursor.iter().flat_map(|cursor: &String| ["--cursor", cursor]));
        let output = fixture.stack.backend_output(&arguments, &BackendSettings::default()).unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        found.extend(printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["eventKey"].clone()));
        let said = String::from_utf8(output.stderr).unwrap();
        let Some((_, next)) = said.trim().split_once("--cursor ") else { break };
        cursor = Some(next.to_owned());
    }
    assert_eq!(found, expected.iter().map(|(key, _)| json!(key)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_has_every_change_of_a_dead_letter() {
    let fixture = Fixture::start().await;
    let event = fixture.event("story", Feature::Extraction, Stage::Completed, AT);
    fail(&fixture, StatusCode::GONE, 1);
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "dead").await;
    fail(&fixture, StatusCode::GONE, 1);
    fixture.stack.backend_command(&["replay"]).unwrap();
    let is_dead_twice =
        || happened(&story(&fixture, &event.key)).iter().filter(|what| **what == "deadLettered").count() == 2;
    eventually("the replayed event is a dead letter again", async || is_dead_twice()).await;
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "completed").await;
    let of = story(&fixture, &event.key);
    let expected = ["received", "deadLettered", "replayed", "deadLettered", "revived", "completed"];
    assert_eq!(happened(&of), expected, "{of}");
    assert_eq!(states(&fixture, &[]).len(), 1, "an event is listed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_is_explained() {
    let fixture = Fixture::start().await;
    let event = fixture.event("known", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "completed").await;
    for keys in harness::keys::of_all_partitions() {
        let _: u64 = fixture.redis(redis::cmd("DEL").arg(keys.history()));
    }
    let missing = event.key.replace("extraction", "forensics");
    let strange = "case.extraction.completed:strange:2025-06-22T10:30:00Z";
    for (subject, received, exists, said) in [
        (event.key.as_str(), "notKept", true, "the event was received, but its history is no longer kept"),
        ("known", "notKept", true, "an event of the case was received, but its history is no longer kept"),
        (&missing, "neverReceived", true, "the event was never received; the case exists at TruEnroll"),
        (strange, "neverReceived", false, "the event was never received; the case does not exist at TruEnroll"),
        ("strange", "neverReceived", false, "an event of the case was never received; the case does not exist"),
    ] {
        let output = fixture.stack.backend_output(&["show", subject], &BackendSettings::default()).unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&printed["state"], &printed["caseExists"]), (&json!(received), &json!(exists)), "{subject}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{error}");
    }
    let output = fixture.stack.backend_output(&["show", "not a key"], &BackendSettings::default()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_found_by_the_partners_reference_and_reconciled() {
    let fixture = Fixture::start_with(|options| options.backend("reconciler.backfill_first_round", true)).await;
    let event = fixture.event("found", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "completed").await;
    let shown = lines(&fixture, &["show", "--external-id", "applicant-1"]);
    assert_eq!(shown[0]["eventKey"], json!(event.key));
    let run = |arguments: &[&str], own: BackendSettings| {
        let output = fixture.stack.backend_output(arguments, &own).unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let usual = BackendSettings::default;
    assert_eq!(run(&["show", "--external-id", "other"], usual()).0, Some(3));
    let ignored = usual().with("partner_api.paging.external_id_parameter", "ref");
    let (code, said) = run(&["show", "--external-id", "other"], ignored);
    assert!(code == Some(1) && said.contains("external_id_parameter") && !said.contains("other\""), "{said}");

    for feature in Feature::ALL {
        fixture.simulator.world.finish("found", feature, Stage::Completed, AT);
    }
    let said = fixture.stack.backend_command(&["reconcile", "--case", "found"]).unwrap();
    assert!(said.starts_with("compared 1 case: 0 events backfilled, 3 within the grace period"), "{said}");
    assert!(said.contains("noted 3 missing events: a round backfills each of them"), "{said}");
    assert_eq!(run(&["reconcile", "--case", "strange"], usual()).0, Some(3));
}

/// All keys in Redis whose names contain `text`.
fn keys_with(fixture: &Fixture, text: &str) -> Vec<String> {
    fixture.redis(redis::cmd("KEYS").arg(format!("*{text}*")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_forgotten_and_no_other() {
    let fixture = Fixture::start().await;
    let event = |case, feature| fixture.event(case, feature, Stage::Completed, AT);
    let forget = |arguments: &[&str]| {
        let arguments = [&["forget", "--case", "10"], arguments].concat();
        let output = fixture.stack.backend_output(&arguments, &BackendSettings::default()).unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str::<Value>(&printed).ok(), String::from_utf8(output.stderr).unwrap())
    };
    // The pattern for the case `10` also matches the time of this one.
    let other = fixture.event("other", Feature::Extraction, Stage::Completed, "2025-06-22T10:10:10Z");
    fixture.send_accepted(&other).await;
    has_state(&fixture, &other.key, "completed").await;
    let others = keys_with(&fixture, "other").len();

    let completed = event("10", Feature::Extraction);
    fixture.send_accepted(&completed).await;
    has_state(&fixture, &completed.key, "completed").await;
    fail(&fixture, StatusCode::GONE, 1);
    let dead = event("10", Feature::Translation);
    fixture.send_accepted(&dead).await;
    has_state(&fixture, &dead.key, "dead").await;
    fixture.stack.backend_command(&["pause", "forensics"]).unwrap();
    let pending = event("10", Feature::Forensics);
    fixture.send_accepted(&pending).await;

    let (code, erased, said) = forget(&[]);
    let expected = json!({ "records": 2, "deadLetters": 1, "quarantined": 0, "pending": 0, "keys": 2 });
    assert_eq!(
        (code, erased),
        (Some(0), Some(json!({ "case": "10", "erased": expected, "keptPending": 1 }))),
        "{said}"
    );
    assert_eq!(states(&fixture, &["--case", "10"]), [(pending.key.clone(), "pending".to_owned())]);
    assert_eq!(fixture.sender.send(&pending).await, Answer::Duplicate(pending.key.clone()), "its seen key is kept");

    let (code, erased, said) = forget(&["--pending"]);
    let expected = json!({ "records": 0, "deadLetters": 0, "quarantined": 0, "pending": 1, "keys": 1 });
    assert_eq!(
        (code, erased),
        (Some(0), Some(json!({ "case": "10", "erased": expected, "keptPending": 0 }))),
        "{said}"
    );
    assert!(said.contains("TruEnroll still has the case"), "{said}");
    assert_eq!(states(&fixture, &["--case", "10"]), []);
    assert_eq!(keys_with(&fixture, ":seen:*:10:"), keys_with(&fixture, ":seen:*:other:"));
    assert_eq!(keys_with(&fixture, ":case:10"), [""; 0]);
    assert_eq!(keys_with(&fixture, "other").len(), others);
    let (code, _, said) = forget(&[]);
    assert_eq!((code, said.trim()), (Some(3), "backend: nothing is stored about the case 10"));
    fixture.stack.backend_command(&["resume", "forensics"]).unwrap();
    // A redelivery is a new event.
    fixture.send_accepted(&dead).await;
    has_state(&fixture, &dead.key, "completed").await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_erased_between_two_attempts_leaves_nothing() {
    let fixture = Fixture::start().await;
    fail(&fixture, StatusCode::SERVICE_UNAVAILABLE, 10_000);
    let event = fixture.event("erased", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "retrying").await;
    fixture.stack.backend_command(&["forget", "--case", "erased", "--pending"]).unwrap();
    let next = fixture.event("erased", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:01Z");
    fixture.send_accepted(&next).await;
    fixture.simulator.application.heal();
    has_state(&fixture, &next.key, "completed").await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_listed_fast() {
    let fixture = Fixture::start().await;
    let script = "for n = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'event', \
                  'result 1 1 1 sent case.extraction.completed:c' .. n .. ':2025-06-22T10:30:00Z') end";
    let history = harness::keys::of_partition(3).history();
    fixture.redis::<()>(redis::cmd("EVAL").arg(script).arg(1).arg(history));
    let began = Instant::now();
    let listed = states(&fixture, &["--limit", "20"]);
    let took = began.elapsed();
    println!("20 of 100,000 events listed in {took:?}");
    assert_eq!(listed[0].0, "case.extraction.completed:c100000:2025-06-22T10:30:00Z");
    assert!(listed.len() == 20 && took < Duration::from_secs(2), "{} events in {took:?}", listed.len());

    let mut command =
        fixture.stack.backend_process(&["events", "--limit", "100000"], &BackendSettings::default()).unwrap();
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "a reader may stop early: {output:?}");
}
