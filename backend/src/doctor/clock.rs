//! This machine's clock, compared with others.

use std::time::{Duration, SystemTime};

use super::{Checked, Finding, examined::Examined, servers::worst};
use crate::units::duration;

/// A greater difference is a warning.
const MUCH: Duration = Duration::from_secs(5);
/// With a greater difference, applications reject signed outcomes, and the filter rejects genuine
/// events if it is Envoy's clock that is slow.
const TOO_MUCH: Duration = Duration::from_secs(300);

pub(super) async fn redis(examined: &Examined) -> Checked {
    let clocks = examined.reached_redis().await?.clocks().await?;
    Ok(worst(clocks.iter().map(|clock| judge(&format!("Redis at {}", clock.address), clock.ours, clock.theirs))))
}

pub(super) async fn partner_api(examined: &Examined) -> Checked {
    let clocks = examined.first_case().await.and_then(|listed| listed.clocks);
    let unknown = || Finding::not_checked("the Partner API stated no time (header `Date`)", "see `partner-api`");
    let (theirs, ours) = clocks.ok_or_else(unknown)?;
    Ok(judge("the Partner API", ours, theirs))
}

fn judge(other: &str, ours: SystemTime, theirs: SystemTime) -> Finding {
    let (difference, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if difference < MUCH {
        return Finding::pass(format!("this machine's clock agrees with that of {other}"));
    }
    let found = format!("this machine's clock is {} {direction} that of {other}", duration(difference));
    let advice = "synchronize the clocks of both machines (NTP)";
    if difference < TOO_MUCH { Finding::warning(found, advice) } else { Finding::failure(found, advice) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::Status, time::from_millis};

    #[test]
    fn a_clock_that_is_wrong_by_minutes_is_a_failure() {
        for (ours, status, said) in [
            (1_000_000_000, Status::Pass, "agrees"),
            (1_000_004_999, Status::Pass, "agrees"),
            (1_000_007_000, Status::Warning, "7 s ahead of that of Redis"),
            (999_993_000, Status::Warning, "7 s behind that of Redis"),
            (1_000_360_000, Status::Failure, "6 min ahead of"),
            (999_640_000, Status::Failure, "6 min behind"),
        ] {
            let finding = judge("Redis", from_millis(ours), from_millis(1_000_000_000));
            assert!(finding.status == status && finding.found.contains(said), "{finding:?}");
        }
    }
}
