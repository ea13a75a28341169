//! What a request must show to pass the filter.
//!
//! The policy file does not settle it: tokens may be given to `guardctl` in another way, and another
//! policy may have been published. So the filter itself is asked, on Envoy's operators' listener.

use std::fs;

use envelope::{Policy, Requirement, headers};
use serde::Deserialize;

use super::{Checked, Finding, envoy, examined::Examined};
use crate::http_client::Got;

/// What matters here of the filter's policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyFile {
    authenticity: Kind,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kind {
    kind: Option<String>,
    or: Option<Box<Kind>>,
}

impl Kind {
    fn requires_something(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind != "none")
    }
}

const REQUIRE_A_TOKEN: &str = "have TruEnroll register a URL with a token, require the token with `authenticity` in \
                               policy.toml (docs/EDGE.md, \"Introducing or changing a token\"), and set `mode` to \
                               \"enforce\" once the counted rejections are right";

pub(super) async fn check(examined: &Examined) -> Checked {
    let policy = read(&examined.config.reconciler.policy_file)?;
    match envoy::ask(examined, Policy::PROBE_PATH).await {
        Ok(answer) => Ok(judge_answer(&answer)),
        // Whether Envoy is reachable is another check's concern.
        Err(unanswered) => policy.as_ref().map(judge_policy).ok_or(unanswered),
    }
}

/// Reads the policy's file, if one is set.
fn read(file: &str) -> Result<Option<PolicyFile>, Finding> {
    if file.is_empty() {
        return Ok(None);
    }
    let unreadable = |problem: String| {
        Finding::failure(format!("{file} (`reconciler.policy_file`) {problem}"), "set it to the filter's policy.toml")
    };
    let text = fs::read_to_string(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    // The parser's own message is dropped: it would show a line, which may contain a token.
    toml::from_str(&text).map(Some).map_err(|_| unreadable("is not a policy".to_owned()))
}

/// Judges what the filter says that it requires.
fn judge_answer(answer: &Got) -> Finding {
    let requires = |requirement: Requirement| answer.header(headers::REQUIRES) == Some(requirement.as_str());
    if requires(Requirement::PathToken) {
        return Finding::pass("the filter requires a token in the path");
    }
    if requires(Requirement::Signature) {
        return Finding::pass("the filter requires a signature");
    }
    if requires(Requirement::Nothing) {
        return Finding::warning(
            "the filter requires neither a token nor a signature, or is in shadow mode, so anyone can send events",
            REQUIRE_A_TOKEN,
        );
    }
    Finding::not_checked("the filter does not say what it requires", "see `envoy-build`")
}

/// Judges the policy's file, if the filter cannot be asked.
fn judge_policy(policy: &PolicyFile) -> Finding {
    let kinds = [Some(&policy.authenticity), policy.authenticity.or.as_deref()];
    if kinds.into_iter().flatten().all(Kind::requires_something) {
        let kind = policy.authenticity.kind.as_deref().unwrap_or_default();
        return Finding::pass(format!("the policy's file requires `{kind}`; the filter itself was not asked"));
    }
    Finding::warning(
        "the policy's file requires neither a token nor a signature",
        "set `doctor.envoy_url`, to find out whether a token was given to `guardctl` in another way",
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn the_filter_says_what_it_requires() {
        for (requires, status, said) in [
            (Some("path_token"), Status::Pass, "token"),
            (Some("signature"), Status::Pass, "signature"),
            (Some("nothing"), Status::Warning, "anyone can send"),
            (Some("of a later version"), Status::Warning, "does not say"),
            (None, Status::Warning, "does not say"),
        ] {
            let finding = judge_answer(&Got::with_header(headers::REQUIRES, requires));
            assert!(finding.status == status && finding.found.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn without_envoy_the_policy_file_counts_and_its_tokens_are_not_shown() {
        let token = "[authenticity]\nkind = \"path_token\"\ntokens = [\"a-token-of-16-bytes\"]\n";
        let or_none = format!("{token}[authenticity.or]\nkind = \"none\"");
        for (text, status) in [
            (token, Status::Pass),
            (&or_none, Status::Warning),
            ("", Status::Warning),
            ("authenticity = [\"a-token-of-16-bytes\" oops", Status::Failure),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let read = read(&file.path().display().to_string());
            let finding = read.map_or_else(|finding| finding, |policy| judge_policy(&policy.unwrap()));
            assert_eq!(finding.status, status, "{text}");
            assert!(!format!("{finding:?}").contains("a-token"), "{finding:?}");
        }
        assert!(read("").unwrap().is_none());
        assert_eq!(read("/missing/policy.toml").unwrap_err().status, Status::Failure);
    }
}
