//! Records of the history that share an entry.

use backend::test_support::{
    events::{self, Filter, PendingEvents, Tail},
    inbox::Inbox,
};
use envelope::{CaseId, Feature, Stage};
use harness::{backend_settings::BackendSettings, keys, records};
use redis::streams::StreamRangeReply;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    events::{has_state, pages_are_complete, states},
    fixture::{Fixture, eventually},
};

const AT: &str = "2025-06-22T10:30:00Z";
const PARTITION: u32 = 3;

/// Returns the first `count` names of cases of one partition.
fn cases(count: usize) -> Vec<String> {
    let names = (0..).map(|number| format!("c{number}"));
    names.filter(|name| keys::keys().partition_of(name) == PARTITION).take(count).collect()
}

fn key(case: &str, feature: Feature) -> String {
    format!("case.{feature}.completed:{case}:{AT}")
}

/// Adds an entry to the history, and returns its identifier.
fn add(fixture: &Fixture, field: &str, keys_of_events: &[&str]) -> String {
    let records: Vec<_> = keys_of_events.iter().map(|key| format!("result 1 1 1 sent {key}")).collect();
    let history = keys::of_partition(PARTITION).history();
    fixture.redis(redis::cmd("XADD").arg(history).arg("*").arg(field).arg(records.join("\n")))
}

fn entries(fixture: &Fixture) -> StreamRangeReply {
    fixture.redis(redis::cmd("XRANGE").arg(keys::of_partition(PARTITION).history()).arg("-").arg("+"))
}

/// Erases a case, and returns the exit code and how many records were erased.
fn forget(fixture: &Fixture, case: &str) -> (Option<i32>, Value) {
    let output = fixture.stack.backend_output(&["forget", "--case", case], &BackendSettings::default()).unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), printed["erased"]["records"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_share_an_entry_are_listed_and_erased_one_by_one() {
    let fixture = Fixture::start().await;
    let cases = cases(4);
    let of = |case: usize, feature| key(&cases[case], feature);
    let (extraction, forensics) = (Feature::Extraction, Feature::Forensics);
    // More entries than are copied in one step.
    let older: Vec<_> = (0..250).map(|_| add(&fixture, "event", &["case.extraction.completed:older:x"])).collect();
    let shared = add(&fixture, "events", &[&of(0, extraction), &of(1, extraction), &of(0, forensics)]);
    let alone = add(&fixture, "event", &[&of(2, extraction)]);
    let last = add(&fixture, "events", &[&of(3, forensics)]);
    let completed = |key: String| (key, "completed".to_owned());
    let newest_first =
        [of(3, forensics), of(2, extraction), of(0, forensics), of(1, extraction), of(0, extraction)].map(completed);
    assert_eq!(states(&fixture, &["--limit", "5"]), newest_first);
    pages_are_complete(
        &fixture,
        &["--since", AT, "--feature", "forensics"],
        1,
        &[0, 2].map(|place| &newest_first[place]),
    );
    for limit in [1, 2, 3] {
        let of_case = [&newest_first[2], &newest_first[4]];
        pages_are_complete(&fixture, &["--case", &cases[0]], limit, &of_case);
    }

    let ids = || entries(&fixture).ids.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    let added = [&older[..], &[shared, alone, last]].concat();
    assert_eq!(forget(&fixture, &cases[0]), (Some(0), json!(2)));
    let left = [0, 1, 3].map(|place| newest_first[place].clone());
    assert_eq!(states(&fixture, &["--limit", "3"]), left);
    assert_eq!(forget(&fixture, &cases[0]), (Some(3), Value::Null), "nothing is left of it");
    assert_eq!(forget(&fixture, &cases[3]), (Some(0), json!(1)));
    assert_eq!(states(&fixture, &["--limit", "2"]), left[1..]);
    assert_eq!(ids(), added, "the entries keep their identifiers");
    let copies: Vec<String> = fixture.redis(redis::cmd("KEYS").arg("*history-copy*"));
    assert_eq!(copies, [""; 0]);

    // The backend goes on with the history that has replaced the other one.
    let event = fixture.event(&cases[0], extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    has_state(&fixture, &event.key, "completed").await;
    assert_eq!(states(&fixture, &["--limit", "1"]), [completed(event.key)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_are_erased_at_the_same_time_while_events_are_completed() {
    const ENTRIES: usize = 2_000;
    const ERASED: usize = 4;
    let fixture = Fixture::start().await;
    let cases = cases(ERASED + 200);
    let (erased, others) = cases.split_at(ERASED);
    let script = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'events', ARGV[2] .. n) end";
    let records: String =
        erased.iter().map(|case| format!("result 1 1 1 sent {}\n", key(case, Feature::Extraction))).collect();
    let of_another = "result 1 1 1 sent case.extraction.completed:another:";
    let mut seed = redis::cmd("EVAL");
    seed.arg(script).arg(1).arg(keys::of_partition(PARTITION).history()).arg(ENTRIES).arg(records + of_another);
    fixture.redis::<()>(&seed);
    let config = BackendSettings::usual(0, 0).with("redis.url", fixture.stack.redis_url()).config().unwrap();
    let inbox = Inbox::connect_command(&config).await.unwrap();
    let mut tail = Tail::new(&inbox, Filter::default()).await.unwrap();

    let mut commands = JoinSet::new();
    for case in erased {
        let (inbox, case) = (inbox.clone(), CaseId::new(case.clone()).unwrap());
        commands.spawn(async move { events::forget(&inbox, &case, PendingEvents::Kept).await.unwrap() });
    }
    let mut sent = Vec::new();
    for case in others {
        let event = fixture.event(case, Feature::Extraction, Stage::Completed, AT);
        fixture.send_accepted(&event).await;
        sent.push(event.key);
    }
    while let Some(forgotten) = commands.join_next().await {
        assert_eq!(forgotten.unwrap().erased.records, ENTRIES as u64);
    }

    let mut followed = Vec::new();
    eventually("every event is recorded", async || {
        while let Some(occurrence) = tail.next().await.unwrap() {
            followed.push(occurrence.key);
        }
        followed.len() >= sent.len()
    })
    .await;
    let found: Vec<_> = entries(&fixture).ids.iter().flat_map(records::of).map(|(event, _)| event).collect();
    let expected = (1..=ENTRIES).map(|n| format!("{of_another}{n}"));
    assert!(found.iter().take(ENTRIES).eq(expected.collect::<Vec<_>>().iter()), "other records of shared entries stay");
    let mut completed: Vec<_> = found[ENTRIES..].iter().filter_map(|event| event.split(' ').nth(5)).collect();
    for keys in [&mut sent, &mut followed] {
        keys.sort_unstable();
    }
    completed.sort_unstable();
    assert_eq!(completed, sent, "each record is there once");
    assert_eq!(followed, sent, "a tail shows each record once");
}
