//! What `guardctl` prints after a publication and for `status`.

use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use envelope::{Authenticity, Policy, authenticity::Way};
use serde_json::Value;

use super::{target::Target, tell};
use crate::{
    ecds,
    publish::{Backends, Outcome},
    store::Publication,
    traffic::authenticated_codes,
};

/// Reports a publication, and warns of what its policy leaves open.
pub(super) fn publication(
    out: &mut impl Write,
    publication: &Publication,
    outcome: Outcome,
    backends: Backends,
) -> Result<()> {
    let policy = ecds::settings(&publication.response).map(|settings| settings.policy).unwrap_or_default();
    warn_of_open_ways(&policy);
    let is_serving = matches!(outcome, Outcome::Verified | Outcome::Unproven);
    if is_serving && authenticated_codes(&policy).is_empty() {
        tell(
            "the build was judged by crashes of the filter and by 5xx answers, but not by rejections: the policy \
             accepts requests without a token or signature, so anyone can cause rejections",
        );
    }
    let said = match outcome {
        Outcome::Verified => "is serving: it answered every probe, and the backends know its proof",
        Outcome::Unproven if backends == Backends::Skip => {
            "is serving: it answered every probe; the backends were not asked whether they know its proof"
        }
        Outcome::Unproven => {
            "is serving: it answered every probe; no backend could be asked whether it knows its proof"
        }
        Outcome::Staged => {
            "is staged, but NOT verified, because no Envoy answers: Envoy will load it when it starts. Run `guardctl \
             status` then; if Envoy does not serve the build, its log says why"
        }
        Outcome::Unchanged => {
            "was published before and is staged, but is NOT verified now, because no Envoy answers: Envoy will load it \
             when it starts"
        }
    };
    Ok(writeln!(out, "build {} (publication {}) {said}", publication.build, publication.number)?)
}

/// Reports a rendered build, and warns of what its policy leaves open.
pub(super) fn rendering(out: &mut impl Write, name: &str, response: &Value, folder: &Path) -> Result<()> {
    warn_of_open_ways(&ecds::settings(response).map(|settings| settings.policy).unwrap_or_default());
    let folder = folder.display();
    Ok(writeln!(out, "build {name} is rendered to {folder}: apply the overlay that includes this directory")?)
}

/// Warns of what anyone can do under the policy, and says how to prevent it.
fn warn_of_open_ways(policy: &Policy) {
    for (way, authenticity) in policy.ways() {
        match (way, authenticity) {
            (Way::Current, Authenticity::None) => tell(
                "warning: `authenticity.kind` is \"none\": anyone who knows the URL can send forged events, which use up calls \
                 of the Partner API and delay genuine events. Create a token with `guardctl token`, publish with it (--token \
                 or WEBHOOK_TOKEN) and register its URL. For a live endpoint, follow the steps in docs/EDGE.md",
            ),
            (Way::Superseded, Authenticity::None) => tell(
                "warning: requests without a token or signature are still accepted. Once `truenroll_filter_superseded` stops \
                 rising, remove [authenticity.or] from the policy and publish again",
            ),
            _ => {}
        }
    }
}

/// Lists the publications that are kept, and the build that Envoy serves.
///
/// # Errors
/// If the shared directory cannot be read, or Envoy does not say what it serves.
pub(super) fn status(out: &mut impl Write, target: &Target) -> Result<()> {
    let store = target.store()?;
    let current = store.current()?.map(|publication| publication.number);
    for publication in store.publications()? {
        let mark = if Some(publication.number) == current { "published" } else { "" };
        let version = store.version(&publication).unwrap_or_else(|| "of unknown version".to_owned());
        writeln!(out, "{:>6}  {}  filter {version}  {mark}", publication.number, publication.build)?;
    }
    match target.edge().probe() {
        Ok(build) => Ok(writeln!(out, "Envoy serves {build}")?),
        Err(error) => bail!("cannot tell which build Envoy serves: {error}"),
    }
}
