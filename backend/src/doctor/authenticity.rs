//! What a request must show to pass the filter.
//!
//! The policy file does not settle it: tokens may be given to `guardctl` in another way, and another
//! policy may have been published. So the filter itself is asked, with a request that shows nothing,
//! on Envoy's operators' listener, from which an event never reaches a backend. The filter counts
//! it as a rejection.

use std::fs;

use envelope::{Code, Policy};
use serde::Deserialize;

use super::{
    Checked, Finding,
    envoy::{self, EnvoyAnswer, Method},
    examined::Examined,
};

/// What matters here of the filter's policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyFile {
    path: Option<String>,
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

const REQUIRE_A_TOKEN: &str = "have TruEnroll register a URL with a token, and require the token with `authenticity` in \
                               policy.toml (docs/EDGE.md, \"Introducing or changing a token\")";

pub(super) async fn check(examined: &Examined) -> Checked {
    let policy = read(&examined.subject.config.reconciler.policy_file)?;
    let default = Policy::default().path;
    let path = policy.as_ref().map(|policy| policy.path.as_deref().unwrap_or(&default));
    match envoy::ask(examined, Method::Post, path.unwrap_or(&default)).await {
        Ok(answer) => Ok(judge_answer(&answer, path.is_some())),
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

/// Judges what the filter answers to a request that shows nothing.
fn judge_answer(answer: &EnvoyAnswer, knows_path: bool) -> Finding {
    let rejection = answer.rejection.as_deref().unwrap_or_default();
    if rejection == Code::MissingSignature.as_str() {
        return Finding::pass("the filter requires a signature");
    }
    if rejection == Code::NotFound.as_str() && knows_path {
        return Finding::pass("the filter requires a token in the path");
    }
    if rejection == Code::NotFound.as_str() {
        return Finding::warning(
            "the filter requires a token in the path, or the webhook's path is not the default one",
            "set `reconciler.policy_file` to the filter's policy, so that this can be told",
        );
    }
    if rejection.is_empty() {
        return Finding::warning(
            "the filter rejects nothing: it is in shadow mode, or does not run",
            "see `envoy-build`, and set `mode` to \"enforce\" in policy.toml once the counted rejections are right",
        );
    }
    Finding::warning("the filter requires neither a token nor a signature, so anyone can send events", REQUIRE_A_TOKEN)
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
    fn the_filters_answer_shows_what_it_requires() {
        for (rejection, knows_path, status, said) in [
            (Some("not_found"), true, Status::Pass, "token"),
            (Some("not_found"), false, Status::Warning, "or the webhook's path"),
            (Some("missing_signature"), false, Status::Pass, "signature"),
            (Some("empty_body"), true, Status::Warning, "anyone can send"),
            (None, true, Status::Warning, "shadow mode"),
        ] {
            let rejection = rejection.map(str::to_owned);
            let finding = judge_answer(&EnvoyAnswer { rejection, ..EnvoyAnswer::default() }, knows_path);
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
