//! Was every promise kept? Judged from what the sender, the application and Redis recorded, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;
use redis::AsyncCommands;
use tokio::time::sleep;

use super::{faults::Faults, traffic::Lane};
use crate::{
    simulator::{Simulator, application::Delivery},
    stack::Stack,
};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An accepted event was never handled.
    Lost(String),
    /// An event was handled after one that was accepted later.
    OutOfOrder(String),
    /// An event was handled twice without a fault that explains it.
    Twice(String),
    /// Something was handled that was never sent.
    MadeUp(String),
    /// The application complained.
    Complaint(String),
    /// Something is left in Redis that should be gone.
    LeftOver(String),
}

/// Waits until the application has every accepted event and the inbox is empty, or until the time is up.
pub(super) async fn settle(
    simulator: &Simulator,
    lanes: &[Lane],
    stack: &Stack,
    patience: Duration,
) -> Result<Instant> {
    let deadline = Instant::now() + patience;
    let accepted: BTreeSet<_> = lanes.iter().flat_map(|lane| &lane.accepted).collect();
    loop {
        let all = simulator.application.deliveries();
        let delivered: BTreeSet<_> = all.iter().map(|delivery| &delivery.key).collect();
        let waiting = stack.backend_metrics().await?.sum("truenroll_backend_inbox_entries", &[]);
        if (waiting == 0 && accepted.is_subset(&delivered)) || Instant::now() > deadline {
            return Ok(Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Everything that went wrong. Since `calm` nothing was broken on purpose.
pub(super) async fn check(
    simulator: &Simulator,
    lanes: &[Lane],
    faults: &Faults,
    calm: Instant,
    redis_urls: &[String],
) -> Result<Vec<Violation>> {
    let deliveries = simulator.application.deliveries();
    let mut violations: Vec<_> = simulator.application.complaints().into_iter().map(Violation::Complaint).collect();
    let accepted: BTreeSet<&str> = lanes.iter().flat_map(|lane| &lane.accepted).map(String::as_str).collect();
    let mut first: HashMap<&str, (usize, &Delivery)> = HashMap::new();
    for (place, delivery) in deliveries.iter().enumerate() {
        let key = delivery.key.as_str();
        if !accepted.contains(key) {
            violations.push(Violation::MadeUp(key.to_owned()));
        }
        match first.get(key) {
            None => drop(first.insert(key, (place, delivery))),
            Some((_, before)) => {
                if delivery.at > calm || !faults.any_between(before.at, delivery.at) {
                    let after = delivery.at.saturating_duration_since(before.at);
                    let around = faults.describe_between(before.at, delivery.at);
                    violations.push(Violation::Twice(format!("{key}, again after {after:.2?}; around it: {around}")));
                }
            }
        }
    }
    violations
        .extend(accepted.iter().filter(|key| !first.contains_key(*key)).map(|key| Violation::Lost((*key).to_owned())));
    violations.extend(out_of_order(lanes, &first));
    for url in redis_urls {
        violations.extend(left_over(url, &accepted).await?);
    }
    Ok(violations)
}

/// By the first delivery of each: a repeated one may be a stopped backend's that did not know yet.
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

/// With every backend stopped, nothing but the seen keys, the cases, the partitions' number, and for some time what each
/// process kept to.
async fn left_over(url: &str, accepted: &BTreeSet<&str>) -> Result<Vec<Violation>> {
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
            "seen" => u64::from(!accepted.contains(kind.trim_start_matches("seen:"))),
            "case" => 0,
            // What a process keeps to is forgotten some time after it ended.
            "keeps-to" => u64::from(connection.ttl::<_, i64>(&name).await? == -1),
            "inbox" => connection.xlen(&name).await?,
            _ => u64::from(name != "{edge}:partitions"),
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
            Self::Lost(key) => ("accepted, never handled", key),
            Self::OutOfOrder(key) => ("handled out of order", key),
            Self::Twice(key) => ("handled twice with no fault that explains it", key),
            Self::MadeUp(key) => ("handled, never sent", key),
            Self::Complaint(complaint) => ("the application complained", complaint),
            Self::LeftOver(key) => ("left over in Redis", key),
        };
        write!(f, "{what}: {which}")
    }
}
