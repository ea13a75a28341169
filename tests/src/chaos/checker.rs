//! Checks that every promise was kept, using only what the sender, the application and Redis
//! recorded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;
use redis::{AsyncCommands, RedisResult, streams::StreamRangeReply};
use simulator::{Simulator, application::Delivery};
use tokio::time::sleep;

use super::{history::History, traffic::Lane};
use crate::{keys, records};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An accepted event was never handled.
    Lost(String),
    /// An event was handled after an event of its lane that was accepted later.
    OutOfOrder(String),
    /// An event was delivered twice, and no fault explains it.
    Twice(String),
    /// An event was delivered that was rejected or never sent.
    NeverAccepted(String),
    /// The application rejected a delivery as invalid.
    Complaint(String),
    /// A key is left in Redis that should be gone.
    LeftOver(String),
    /// The history does not say exactly once that an event was completed.
    Misrecorded(String),
}

/// Waits until the application has received every accepted event and the inbox is empty, at most
/// for `patience`. `waiting` returns the number of events in the inbox.
///
/// # Errors
/// If that number cannot be found out.
pub async fn settle(
    simulator: &Simulator,
    lanes: &[Lane],
    waiting: impl AsyncFn() -> Result<u64>,
    patience: Duration,
) -> Result<Instant> {
    let deadline = Instant::now() + patience;
    let accepted: BTreeSet<_> = lanes.iter().flat_map(|lane| &lane.accepted).collect();
    loop {
        let all = simulator.application.deliveries();
        let delivered: BTreeSet<_> = all.iter().map(|delivery| &delivery.key).collect();
        if (waiting().await? == 0 && accepted.is_subset(&delivered)) || Instant::now() > deadline {
            return Ok(Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Returns all broken promises. No fault was active after the instant `calm`, and no backend runs.
///
/// # Errors
/// If a Redis server does not answer.
pub async fn check(
    simulator: &Simulator,
    lanes: &[Lane],
    history: &History,
    calm: Instant,
    redis_urls: &[String],
) -> Result<Vec<Violation>> {
    let deliveries = simulator.application.deliveries();
    let mut violations: Vec<_> = simulator.application.complaints().into_iter().map(Violation::Complaint).collect();
    let accepted: BTreeSet<&str> = lanes.iter().flat_map(|lane| &lane.accepted).map(String::as_str).collect();
    // The answer may have been lost, so an event that was not accepted may have been stored.
    let not_accepted = lanes.iter().flat_map(|lane| &lane.not_accepted).map(String::as_str);
    let sent: BTreeSet<&str> = not_accepted.chain(accepted.iter().copied()).collect();
    let mut first: HashMap<&str, (usize, &Delivery)> = HashMap::new();
    for (place, delivery) in deliveries.iter().enumerate() {
        let key = delivery.key.as_str();
        if !sent.contains(key) {
            violations.push(Violation::NeverAccepted(key.to_owned()));
        }
        match first.get(key) {
            None => drop(first.insert(key, (place, delivery))),
            Some((_, before)) => {
                if delivery.at > calm || !history.explains_between(before.at, delivery.at) {
                    let after = delivery.at.saturating_duration_since(before.at);
                    let around = history.describe_between(before.at, delivery.at);
                    violations.push(Violation::Twice(format!(
                        "{key}, again after {after:.2?}; faults around that time: {around}"
                    )));
                }
            }
        }
    }
    violations
        .extend(accepted.iter().filter(|key| !first.contains_key(*key)).map(|key| Violation::Lost((*key).to_owned())));
    violations.extend(out_of_order(lanes, &first));
    let mut completions = BTreeMap::new();
    for url in redis_urls {
        violations.extend(left_over(url, &sent).await?);
        completed(url, &mut completions).await?;
    }
    violations.extend(misrecorded(&accepted, &sent, &completions));
    Ok(violations)
}

/// Compares how often the history says that an event was completed with what happened to it. An
/// event that was delivered again after a fault was completed only once.
fn misrecorded(
    accepted: &BTreeSet<&str>,
    sent: &BTreeSet<&str>,
    completions: &BTreeMap<String, u32>,
) -> Vec<Violation> {
    let missing = accepted.iter().filter(|key| !completions.contains_key(**key));
    let mut violations: Vec<_> =
        missing.map(|key| Violation::Misrecorded(format!("{key}, completed, but not recorded"))).collect();
    for (key, times) in completions {
        if !sent.contains(key.as_str()) {
            violations.push(Violation::Misrecorded(format!("{key}, recorded, but never sent")));
        } else if *times > 1 {
            violations.push(Violation::Misrecorded(format!("{key}, recorded {times} times")));
        }
    }
    violations
}

/// Counts for each event how often the history says that it was completed.
async fn completed(url: &str, completions: &mut BTreeMap<String, u32>) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    for keys in keys::of_all_partitions() {
        // In a cluster, another server may have the partition.
        let records: RedisResult<StreamRangeReply> = connection.xrange_all(keys.history()).await;
        let Ok(records) = records else { continue };
        for (event, _) in records.ids.iter().flat_map(records::of) {
            let words: Vec<_> = event.splitn(6, ' ').collect();
            if let ["result" | "recommendation" | "none", .., key] = words[..] {
                *completions.entry(key.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// Compares the first delivery of each event. A repeated delivery may come from a backend that was
/// stopped and does not know yet that it lost its lease.
fn out_of_order(lanes: &[Lane], first: &HashMap<&str, (usize, &Delivery)>) -> Vec<Violation> {
    let mut orders: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for lane in lanes {
        let keys = lane.accepted.iter().map(String::as_str);
        orders.entry((&lane.case, lane.feature.as_str())).or_default().extend(keys);
    }
    let mut violations = Vec::new();
    for keys in orders.values() {
        let places = keys.iter().filter_map(|key| Some((key, first.get(key)?.0)));
        let mut latest = 0;
        for (key, place) in places {
            if place < latest {
                violations.push(Violation::OutOfOrder((*key).to_owned()));
            }
            latest = latest.max(place);
        }
    }
    violations
}

/// Returns the keys that should not exist while all backends are stopped. Seen keys, cases, formats
/// and the number of partitions stay; the version of the paused features that each backend confirmed
/// expires after some time.
async fn left_over(url: &str, sent: &BTreeSet<&str>) -> Result<Vec<Violation>> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut names: Vec<String> = Vec::new();
    {
        let mut scan = connection.scan::<String>().await?;
        while let Some(name) = scan.next_item().await {
            names.push(name?);
        }
    }
    let mut violations = Vec::new();
    for name in names {
        let kind = name.split_once("}:").map_or(name.as_str(), |(_, kind)| kind);
        let entries: u64 = match kind.split(':').next().unwrap_or_default() {
            "seen" => u64::from(!sent.contains(kind.trim_start_matches("seen:"))),
            "case" | "format" | "history" | "history-marks" => 0,
            // Without an expiry it would stay forever.
            "keeps-to" => u64::from(connection.ttl::<_, i64>(&name).await? == -1),
            "inbox" => connection.xlen(&name).await?,
            _ => u64::from(name != keys::keys().partition_count()),
        };
        if entries > 0 {
            violations.push(Violation::LeftOver(format!("{name} ({entries})")));
        }
    }
    Ok(violations)
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, which) = match self {
            Self::Lost(key) => ("accepted, but never handled", key),
            Self::OutOfOrder(key) => ("handled out of order", key),
            Self::Twice(key) => ("handled twice without a fault that explains it", key),
            Self::NeverAccepted(key) => ("delivered, but never accepted", key),
            Self::Complaint(complaint) => ("the application rejected a delivery", complaint),
            Self::LeftOver(key) => ("left over in Redis", key),
            Self::Misrecorded(key) => ("the history contradicts what happened", key),
        };
        write!(f, "{what}: {which}")
    }
}
