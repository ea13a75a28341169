//! The Redis servers: whether they keep events, and how well they do.

use std::time::Duration;

use super::{Checked, Finding, examined::Examined, finding::LOOK_AT_REDIS};
use crate::{
    config::Durability,
    inbox::{InboxError, ServerInfo},
    units::{bytes, count, duration},
};

/// The oldest major version whose scripts can make room when memory is full (`allow-oom`).
const OLDEST_VERSION: u32 = 7;
/// A server that takes longer to answer slows down every event.
const SLOW: Duration = Duration::from_millis(25);
/// Shares of the memory that are in use.
const MUCH_MEMORY: f64 = 0.75;
const TOO_MUCH_MEMORY: f64 = 0.9;

pub(super) async fn reachable(examined: &Examined) -> Checked {
    let unreachable =
        |error| Finding::of_error(&error, "check `redis.url`, and that Redis runs and can be reached from here");
    let infos = examined.redis().await.map_err(unreachable)?.infos().await.map_err(unreachable)?;
    let addresses: Vec<_> = infos.iter().map(|info| info.address.as_str()).collect();
    Ok(Finding::pass(format!("{}: {}", count(infos.len() as u64, "server"), addresses.join(", "))))
}

pub(super) async fn version(examined: &Examined) -> Checked {
    of_infos(examined, judge_version).await
}

pub(super) async fn memory(examined: &Examined) -> Checked {
    of_infos(examined, judge_memory).await
}

/// Judges each server, and returns the worst finding.
async fn of_infos(examined: &Examined, judge: fn(&ServerInfo) -> Finding) -> Checked {
    let infos = examined.reached_redis().await?.infos().await?;
    Ok(worst(infos.iter().map(judge)))
}

/// Returns the worst of the findings about several servers.
pub(super) fn worst(findings: impl Iterator<Item = Finding>) -> Finding {
    // `max_by_key` would return the last of several equal ones.
    let worst = findings.reduce(|worst, other| if other.status > worst.status { other } else { worst });
    worst.unwrap_or_else(|| Finding::not_checked("there is no server", LOOK_AT_REDIS))
}

fn judge_version(info: &ServerInfo) -> Finding {
    let found = format!("{} runs Redis {}, since {}", info.address, info.version, duration(info.uptime));
    if info.major_version() >= OLDEST_VERSION {
        return Finding::pass(found);
    }
    let problem = "version 7 or later is needed to work on when memory is full";
    Finding::failure(format!("{found}, but {problem}"), "upgrade Redis")
}

fn judge_memory(info: &ServerInfo) -> Finding {
    let used = bytes(info.used_memory);
    if info.max_memory == 0 {
        return Finding::warning(
            format!("{} uses {used} and has no limit, so the kernel may kill it when memory runs out", info.address),
            "set `maxmemory` below the memory of its machine or container",
        );
    }
    let share = info.used_memory as f64 / info.max_memory as f64;
    let found = format!("{} uses {used} of {} ({:.0} %)", info.address, bytes(info.max_memory), share * 100.0);
    let advice = "raise `maxmemory`, or find out why events are not handled; when memory is full, new events are \
                  answered 503";
    match share {
        share if share >= TOO_MUCH_MEMORY => Finding::failure(found, advice),
        share if share >= MUCH_MEMORY => Finding::warning(found, advice),
        _ => Finding::pass(found),
    }
}

pub(super) async fn latency(examined: &Examined) -> Checked {
    let latencies = examined.reached_redis().await?.latencies().await?;
    Ok(worst(latencies.iter().map(|(address, latency)| judge_latency(address, *latency))))
}

fn judge_latency(address: &str, latency: Duration) -> Finding {
    let found = format!("{address} answers within {}", duration(latency));
    if latency < SLOW {
        return Finding::pass(found);
    }
    Finding::warning(found, "run Redis near the backend, and check the load and the disk of its machine")
}

pub(super) async fn eviction(examined: &Examined) -> Checked {
    let redis = examined.reached_redis().await?;
    redis.ensure_no_eviction().await.map_err(|error| unfit(error, examined))?;
    Ok(Finding::pass("no server evicts keys (`maxmemory-policy noeviction`)"))
}

pub(super) async fn durability(examined: &Examined) -> Checked {
    let redis = examined.reached_redis().await?;
    let syncs_always = redis.ensure_durable().await.map_err(|error| unfit(error, examined))?;
    Ok(judge_durability(examined.config.redis.durability, syncs_always))
}

/// Without `redis.check_server` the backend uses an unfit server, so it is not a failure.
fn unfit(error: InboxError, examined: &Examined) -> Finding {
    let failure = Finding::from(error);
    if examined.config.redis.check_server {
        return failure;
    }
    let advice = failure.advice.unwrap_or_default();
    Finding::warning(format!("{}; `redis.check_server` is false, so the backend uses it", failure.found), advice)
}

fn judge_durability(durability: Durability, syncs_always: bool) -> Finding {
    match durability {
        Durability::Fsync if syncs_always => {
            Finding::pass("each event is on disk before it is acknowledged (`appendfsync always`)")
        }
        Durability::Fsync => Finding::pass(
            "each event is on disk before it is acknowledged, and waits up to a second for it (`appendfsync everysec`)",
        ),
        Durability::Replicas(replicas) => {
            let replicas = count(replicas.into(), "replica");
            Finding::pass(format!("each event is in the memory of {replicas} before it is acknowledged"))
        }
        Durability::Memory => Finding::warning(
            "`redis.durability` is \"memory\": a crash of Redis loses the events that it had not written to disk",
            "set it to \"fsync\" or \"replicas:N\", unless the reconciler may find these events later",
        ),
    }
}

pub(super) async fn format(examined: &Examined) -> Checked {
    let format = examined.reached_redis().await?.ensure_usable().await?;
    Ok(Finding::pass(format!("this version can use what is stored (format {format})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn info(version: &str, used_memory: u64, max_memory: u64) -> ServerInfo {
        let (address, version) = ("host:1".to_owned(), version.to_owned());
        ServerInfo { address, version, used_memory, max_memory, ..ServerInfo::default() }
    }

    #[test]
    fn redis_before_version_7_is_a_failure() {
        for (version, status) in
            [("6.2.14", Status::Failure), ("7.0.0", Status::Pass), ("8.2.1", Status::Pass), ("", Status::Failure)]
        {
            assert_eq!(judge_version(&info(version, 0, 0)).status, status, "{version}");
        }
    }

    #[test]
    fn memory_that_runs_out_is_noticed_before_it_is_full() {
        for (used, max, status, found) in [
            (10 << 20, 100 << 20, Status::Pass, "host:1 uses 10.0 MiB of 100.0 MiB (10 %)"),
            (75 << 20, 100 << 20, Status::Warning, "(75 %)"),
            (90 << 20, 100 << 20, Status::Failure, "(90 %)"),
            (10 << 20, 0, Status::Warning, "has no limit"),
        ] {
            let finding = judge_memory(&info("8.0.0", used, max));
            assert!(finding.status == status && finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn a_slow_server_is_a_warning() {
        assert_eq!(judge_latency("host:1", Duration::from_micros(300)), Finding::pass("host:1 answers within 0.3 ms"));
        assert_eq!(judge_latency("host:1", SLOW).status, Status::Warning);
    }

    #[test]
    fn only_memory_durability_is_a_warning() {
        for (durability, status) in [
            (Durability::Fsync, Status::Pass),
            (Durability::Replicas(2), Status::Pass),
            (Durability::Memory, Status::Warning),
        ] {
            for syncs_always in [true, false] {
                assert_eq!(judge_durability(durability, syncs_always).status, status, "{durability:?}");
            }
        }
    }

    #[test]
    fn the_worst_server_counts() {
        let findings = [Finding::pass("a"), Finding::failure("b", "x"), Finding::warning("c", "y")];
        assert_eq!(worst(findings.into_iter()).found, "b");
        assert_eq!(worst(std::iter::empty()).status, Status::Warning);
    }
}
