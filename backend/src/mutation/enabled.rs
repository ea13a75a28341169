//! The mutations and their parts that fit in one function.

use std::{env, sync::LazyLock, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A removed protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The scripts do not compare the fencing token, and an owner does not notice by its own clock
    /// that its lease has expired.
    Fencing,
    /// The seen key is set first, and the event is stored in a second step.
    Atomicity,
    /// A new owner of a partition reads only the events that arrive from then on.
    Recovery,
    /// An event is given up after a number of attempts, however soon that is.
    GiveUpByCount,
    /// A new connection is used before its server has proved that it meets the requirements, and a
    /// check without an answer counts as passed.
    Fitness,
    /// The ingest stops as soon as the process is told to stop.
    IngestClosedFirst,
    /// Any proof counts as known.
    Proof,
}

/// Returns whether the process runs with this mutation.
pub(crate) fn is_active(mutation: Mutation) -> bool {
    static ACTIVE: LazyLock<Option<Mutation>> = LazyLock::new(|| match env::var("BACKEND_MUTATION").as_deref() {
        Ok("fencing") => Some(Mutation::Fencing),
        Ok("atomicity") => Some(Mutation::Atomicity),
        Ok("recovery") => Some(Mutation::Recovery),
        Ok("give-up-by-count") => Some(Mutation::GiveUpByCount),
        Ok("fitness") => Some(Mutation::Fitness),
        Ok("ingest") => Some(Mutation::IngestClosedFirst),
        Ok("proof") => Some(Mutation::Proof),
        _ => None,
    });
    *ACTIVE == Some(mutation)
}

/// [`Mutation::Fencing`]: returns a script without the comparison of the fencing token.
pub(crate) fn without_fencing(script: &str) -> String {
    script.replace("if redis.call('GET', KEYS[1]) ~= ARGV[1] then", "if false then")
}

/// [`Mutation::Fencing`]: puts off the time at which an owner takes its lease for expired.
pub(crate) fn never_expire(expires_at: &mut Instant, time_to_live: Duration) {
    if is_active(Mutation::Fencing) {
        *expires_at = Instant::now() + time_to_live;
    }
}

/// [`Mutation::Recovery`]: returns where a reader starts, which is behind all entries that exist.
pub(crate) fn beginning(last: String) -> String {
    let skips = is_active(Mutation::Recovery) && last == "0";
    if skips { "$".to_owned() } else { last }
}

/// [`Mutation::IngestClosedFirst`]: returns the token that stops the ingest.
pub(crate) fn stop_ingest(actual: CancellationToken, shutdown: &CancellationToken) -> CancellationToken {
    if is_active(Mutation::IngestClosedFirst) { shutdown.child_token() } else { actual }
}
