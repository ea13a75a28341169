//! Judges a build by traffic, using only what a stranger cannot forge.
//!
//! Anyone can make the filter reject requests, and 20 rejections after a swap must not decide
//! whether a publication is kept. Three things count against a build: the filter crashes; the share
//! of 5xx answers rises; or authenticated requests are rejected more often than before. A request
//! counts as authenticated if it was accepted, or rejected with a code that can be reached only
//! with a valid token or signature ([`authenticated_codes`]). Codes that the change of policy makes
//! likely ([`introduced_codes`]) do not count.

use envelope::{Code, Policy};

mod codes;
mod snapshot;

pub use codes::{authenticated_codes, introduced_codes};
pub use snapshot::Snapshot;

/// Finds objections to a build.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The counters before the swap, since Envoy started.
    before: Snapshot,
    /// The codes of rejections that count against the build.
    codes: Vec<Code>,
    /// The share of rejected requests before the swap.
    usual_rejected: f64,
    /// The highest acceptable rise of a share, 0 to 1.
    max_rise: f64,
}

impl Judge {
    /// Creates a judge for the change from one policy to another. Without an old policy, every
    /// rejection counts as new.
    pub fn new(before: Snapshot, old: Option<&Policy>, new: &Policy, max_rise: f64) -> Self {
        let introduced = old.map_or_else(Vec::new, |old| introduced_codes(old, new));
        let mut codes = authenticated_codes(new);
        codes.retain(|code| !introduced.contains(code));
        // Codes that strangers could cause under the old policy say nothing about the usual share.
        let known = old.map(authenticated_codes).unwrap_or_default();
        let comparable: Vec<_> = codes.iter().copied().filter(|code| known.contains(code)).collect();
        let usual_rejected = before.rejected_share(&comparable).unwrap_or_default();
        Self { before, codes, usual_rejected, max_rise }
    }

    /// Describes the filter's crashes since the swap, if there are any.
    pub fn crash(&self, now: &Snapshot) -> Option<String> {
        let crashes = now.crashes.saturating_sub(self.before.crashes);
        (crashes > 0).then(|| format!("the filter crashed ({crashes} restarts of its VM)"))
    }

    /// Describes the first objection to the build, if there is one. `begun` and `now` are the
    /// counters when it began to serve and now.
    pub fn objection(&self, begun: &Snapshot, now: &Snapshot) -> Option<String> {
        let during = now.since(begun);
        self.crash(now).or_else(|| self.failures(&during)).or_else(|| self.rejections(&during))
    }

    fn failures(&self, during: &Snapshot) -> Option<String> {
        let failed = during.failed_share().unwrap_or_default();
        let usual = self.before.failed_share().unwrap_or_default();
        (failed > usual + self.max_rise)
            .then(|| format!("{} of the answers are 5xx, up from {}", percent(failed), percent(usual)))
    }

    fn rejections(&self, during: &Snapshot) -> Option<String> {
        let rejected = during.rejected_share(&self.codes).unwrap_or_default();
        let usual = self.usual_rejected;
        (rejected > usual + self.max_rise).then(|| {
            format!("it rejects {} of the authenticated requests, up from {}", percent(rejected), percent(usual))
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests;
