//! One of the backend's protections taken out, as `BACKEND_MUTATION` says: the chaos suite, or a test, has to notice each.

use std::{env, sync::LazyLock};

/// A protection that is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The scripts do not check the fencing token, and an owner does not watch its own clock either.
    Fencing,
    /// The seen key is set first, and the event is stored afterwards, in a step of its own.
    Atomicity,
    /// A new owner reads only what comes from then on.
    Recovery,
    /// An event is given up after a number of attempts, however soon that is.
    GiveUpByCount,
    /// A new connection is trusted before its server was asked what it does, and a check without an answer counts as passed.
    Fitness,
    /// The ingest closes as soon as the process is told to stop.
    IngestClosedFirst,
    /// Any proof is taken for a known one.
    Proof,
}

/// Which one, if any.
pub fn current() -> Option<Mutation> {
    static CURRENT: LazyLock<Option<Mutation>> = LazyLock::new(|| match env::var("BACKEND_MUTATION").as_deref() {
        Ok("fencing") => Some(Mutation::Fencing),
        Ok("atomicity") => Some(Mutation::Atomicity),
        Ok("recovery") => Some(Mutation::Recovery),
        Ok("give-up-by-count") => Some(Mutation::GiveUpByCount),
        Ok("fitness") => Some(Mutation::Fitness),
        Ok("ingest") => Some(Mutation::IngestClosedFirst),
        Ok("proof") => Some(Mutation::Proof),
        _ => None,
    });
    *CURRENT
}

/// A script without the check of the fencing token, where that is taken out.
pub(crate) fn mutate(script: &str) -> String {
    const CHECK: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then";
    if current() == Some(Mutation::Fencing) { script.replace(CHECK, "if false then") } else { script.to_owned() }
}

/// Where a reader begins: past everything that is there already, where recovery is taken out.
pub(crate) fn beginning(last: String) -> String {
    let passes_over = current() == Some(Mutation::Recovery) && last == "0";
    if passes_over { "$".to_owned() } else { last }
}
