//! Dead letters are counted by code, however they come and go.

use std::{collections::BTreeMap, time::Duration};

use backend::test_support::inbox::{DeadLetterCounts, Inbox, keys::Keys};
use harness::{
    proxy::{Fault, Proxy},
    redis_server::FSYNC,
};
use redis::{Connection, Pipeline, pipe};

use crate::fixture::{IN_PROCESS_PREFIX, config, redis};

/// What happens, how the dead letters change, and the numbers after that.
type Step = (&'static str, fn(&mut Pipeline, &str), &'static [(&'static str, u64)]);

/// Dead letters in the only partition of an inbox.
struct DeadLetters {
    connection: Connection,
    key: String,
}

impl DeadLetters {
    fn of(redis_url: &str) -> Self {
        let connection = redis::Client::open(redis_url).unwrap().get_connection().unwrap();
        Self { connection, key: Keys::new(IN_PROCESS_PREFIX, 1).of_partition(0).dead() }
    }

    /// Changes them at once.
    fn change(&mut self, change: impl FnOnce(&mut Pipeline, &str)) {
        let mut changes = pipe();
        changes.atomic();
        change(&mut changes, &self.key);
        changes.exec(&mut self.connection).unwrap();
    }
}

/// Adds dead letters, the first of which has this number.
fn add(changes: &mut Pipeline, key: &str, first: usize, codes: &[&str]) {
    for (number, code) in codes.iter().enumerate() {
        let id = format!("{}-7", first + number);
        changes
            .cmd("XADD")
            .arg(key)
            .arg(id)
            .arg("key")
            .arg("code")
            .arg("code")
            .arg(code)
            .arg("body")
            .arg("{}")
            .ignore();
    }
}

fn remove(changes: &mut Pipeline, key: &str, number: usize) {
    changes.cmd("XDEL").arg(key).arg(format!("{number}-7")).ignore();
}

/// The numbers of the codes that there are.
async fn counted(counts: &mut DeadLetterCounts, inbox: &Inbox) -> BTreeMap<&'static str, u64> {
    let total = inbox.contents().await.unwrap().dead_letters;
    let mut numbers = counts.update(inbox, total).await.unwrap();
    assert!(numbers.contains_key("sink_full"), "codes without dead letters are shown as well: {numbers:?}");
    numbers.retain(|_, number| *number > 0);
    numbers
}

#[tokio::test]
async fn the_numbers_are_those_of_the_dead_letters_that_there_are() {
    let server = redis(&FSYNC);
    let inbox = Inbox::connect(&config(&server.url())).await.unwrap();
    let mut letters = DeadLetters::of(&server.url());
    let steps: [Step; 11] = [
        ("none", |_, _| {}, &[]),
        ("the first", |all, key| add(all, key, 1, &["panic", "panic", "not_ready"]), &[("not_ready", 1), ("panic", 2)]),
        ("nothing new", |_, _| {}, &[("not_ready", 1), ("panic", 2)]),
        (
            "more, of which some have codes that are unknown",
            |all, key| add(all, key, 4, &["panic", "of_a_newer_version", ""]),
            &[("not_ready", 1), ("other", 2), ("panic", 3)],
        ),
        ("the oldest is removed", |all, key| remove(all, key, 1), &[("not_ready", 1), ("other", 2), ("panic", 2)]),
        (
            "as many are added as are removed",
            |all, key| {
                remove(all, key, 2);
                remove(all, key, 6);
                add(all, key, 7, &["empty_body", "not_ready"]);
            },
            &[("empty_body", 1), ("not_ready", 2), ("other", 1), ("panic", 1)],
        ),
        (
            "the newest is removed",
            |all, key| remove(all, key, 8),
            &[("empty_body", 1), ("not_ready", 1), ("other", 1), ("panic", 1)],
        ),
        (
            "older ones expire",
            |all, key| _ = all.cmd("XTRIM").arg(key).arg("MINID").arg("7-0").ignore(),
            &[("empty_body", 1)],
        ),
        (
            "there are more than one call counts",
            |all, key| add(all, key, 100, &[["panic"; 300], ["not_ready"; 300]].concat()),
            &[("empty_body", 1), ("not_ready", 300), ("panic", 300)],
        ),
        (
            "a backup is restored",
            |all, key| {
                all.del(key).ignore();
                add(all, key, 1_000, &["panic"; 401]);
            },
            &[("panic", 401)],
        ),
        ("the last is removed", |all, key| _ = all.del(key).ignore(), &[]),
    ];
    let mut counts = DeadLetterCounts::default();
    for (step, change, expected) in steps {
        letters.change(change);
        let expected: BTreeMap<_, _> = expected.iter().copied().collect();
        assert_eq!(counted(&mut counts, &inbox).await, expected, "{step}");
        let mut other = DeadLetterCounts::default();
        assert_eq!(counted(&mut other, &inbox).await, expected, "{step}: counted by a backend that has just started");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_redis_leaves_uncounted_is_counted_the_next_time() {
    let server = redis(&FSYNC);
    let proxy = Proxy::start(server.address()).unwrap();
    let inbox = Inbox::connect(&config(&format!("redis://{}", proxy.address()))).await.unwrap();
    DeadLetters::of(&server.url()).change(|all, key| add(all, key, 1, &["panic"; 3_000]));
    proxy.fail(Fault::Delayed(Duration::from_millis(40)));
    let mut counts = DeadLetterCounts::default();
    let mut uncounted = Vec::new();
    while uncounted.last() != Some(&0) {
        let numbers = counted(&mut counts, &inbox).await;
        assert_eq!(numbers.values().sum::<u64>(), 3_000, "{numbers:?}");
        uncounted.push(numbers.get("uncounted").copied().unwrap_or_default());
        assert!(uncounted.is_sorted_by(|before, after| before > after), "{uncounted:?}");
    }
    assert!(uncounted.len() > 1, "Redis was not slow enough");
}
