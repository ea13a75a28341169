//! The work: whether every partition has an owner, and which events wait.

use std::time::Duration;

use envelope::Feature;

use super::{Checked, Finding, examined::Examined};
use crate::{
    config::Config,
    inbox::{Backlog, Ownership},
    units::{count, duration},
};

/// Judges the work as the checks `partitions`, `backlog` and `dead-letters` do, in this order.
pub fn judge(config: &Config, ownership: Ownership, backlog: &Backlog, dead_letters: u64) -> [Finding; 3] {
    [judge_ownership(ownership), judge_backlog(backlog, ordinary_wait(config)), judge_dead_letters(dead_letters)]
}

pub(super) async fn partitions(examined: &Examined) -> Checked {
    let redis = examined.reached_redis().await?;
    let contents = redis.contents().await?;
    Ok(judge_ownership(redis.ownership(&contents).await?))
}

fn judge_ownership(Ownership { members, owned, partitions }: Ownership) -> Finding {
    let backends = count(members, "backend");
    if members == 0 {
        return Finding::failure(
            "no backend is at work, so no event is handled",
            "start `backend serve` with the same `redis.url` and `redis.prefix`",
        );
    }
    if owned < partitions {
        return Finding::warning(
            format!("{} of {partitions} partitions have no owner; at work: {backends}", partitions - owned),
            "run this again: backends take over partitions within 1.25 times `worker.lease_ms`. If it lasts, look at \
             their logs",
        );
    }
    Finding::pass(format!("all {partitions} partitions have an owner; at work: {backends}"))
}

pub(super) async fn backlog(examined: &Examined) -> Checked {
    let redis = examined.reached_redis().await?;
    let contents = redis.contents().await?;
    let backlog = redis.backlog(&contents).await?;
    Ok(judge_backlog(&backlog, ordinary_wait(&examined.config)))
}

/// How long an event may wait although nothing is wrong but a stage that is unfinished: until the
/// other stages of its case have finished, and for the retry after that.
fn ordinary_wait(config: &Config) -> Duration {
    config.handler.wait_for_case + 2 * config.worker.backoff_cap
}

fn judge_backlog(backlog: &Backlog, ordinary_wait: Duration) -> Finding {
    let events = count(backlog.events, "event");
    let found = match backlog.oldest {
        None => "no event waits".to_owned(),
        Some(age) => format!("{events} in the inbox, the oldest for {}", duration(age)),
    };
    if !backlog.paused.is_empty() {
        let paused: Vec<_> = backlog.paused.iter().copied().map(Feature::as_str).collect();
        let advice = "run `backend resume FEATURE` once its events may be handled again";
        return Finding::warning(format!("{found}; paused: {}", paused.join(", ")), advice);
    }
    if backlog.oldest.is_some_and(|age| age > ordinary_wait) {
        let advice = "look at `truenroll_backend_retries_total` and at the backends' logs for the code with which its \
                      attempts fail (docs/OPERATIONS.md, \"Retries and dead letters\")";
        return Finding::warning(found, advice);
    }
    Finding::pass(found)
}

pub(super) async fn dead_letters(examined: &Examined) -> Checked {
    Ok(judge_dead_letters(examined.reached_redis().await?.contents().await?.dead_letters))
}

fn judge_dead_letters(number: u64) -> Finding {
    match number {
        0 => Finding::pass("there are no dead letters"),
        1.. => Finding::warning(
            format!("there {} {}", if number == 1 { "is" } else { "are" }, count(number, "dead letter")),
            "list them with `backend dead`, remove the cause, and run `backend replay`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn partitions_without_an_owner_are_noticed() {
        for (members, owned, status, said) in [
            (2, 16, Status::Pass, "all 16 partitions have an owner; at work: 2 backends"),
            (1, 13, Status::Warning, "3 of 16 partitions have no owner; at work: 1 backend"),
            (0, 0, Status::Failure, "no backend is at work"),
            (0, 16, Status::Failure, "no backend is at work"),
        ] {
            let finding = judge_ownership(Ownership { members, owned, partitions: 16 });
            assert!(finding.status == status && finding.found.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn an_old_event_and_a_paused_feature_are_warnings() {
        let wait = Duration::from_secs(3_600);
        let backlog = |events, oldest: Option<u64>, paused: &[Feature]| Backlog {
            events,
            oldest: oldest.map(Duration::from_secs),
            paused: paused.to_vec(),
        };
        for (backlog, status, said) in [
            (backlog(0, None, &[]), Status::Pass, "no event waits"),
            (backlog(3, Some(5), &[]), Status::Pass, "3 events in the inbox, the oldest for 5 s"),
            (backlog(3, Some(3_601), &[]), Status::Warning, "the oldest for 1 h 0 min"),
            (backlog(0, None, &[Feature::Forensics]), Status::Warning, "paused: forensics"),
        ] {
            let finding = judge_backlog(&backlog, wait);
            assert!(finding.status == status && finding.found.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn dead_letters_are_a_warning() {
        assert_eq!(judge_dead_letters(0).status, Status::Pass);
        assert_eq!(judge_dead_letters(1).found, "there is 1 dead letter");
        assert_eq!(judge_dead_letters(2).found, "there are 2 dead letters");
    }
}
