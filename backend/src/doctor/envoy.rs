//! Envoy, through its operators' listener: the filter's build, and whether the backends know the
//! filter's proof.

use std::time::Duration;

use envelope::{Policy, headers};
use serde_json::Value;

use super::{Checked, Finding, examined::Examined};
use crate::http_client::{self, Got};

/// How long Envoy may take for one answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// How much of an answer is read, in bytes. Expected answers are shorter.
const MAX_BYTES: usize = 16 * 1024;

/// Asks Envoy.
///
/// # Errors
/// If Envoy does not answer, or its URL is not set.
pub(super) async fn ask(examined: &Examined, path: &str) -> Result<Got, Finding> {
    let url = examined.config.doctor.envoy_url.trim_end_matches('/');
    if url.is_empty() {
        return Err(Finding::not_checked(
            "`doctor.envoy_url` is not set",
            "set it to the URL of Envoy's operators' listener, such as http://envoy:9902",
        ));
    }
    let host = http_client::host_of(url).unwrap_or_default();
    let advice =
        "check `doctor.envoy_url`, and that Envoy runs and lets this machine connect to its operators' listener";
    let got = http_client::get(&format!("{url}{path}"), PATIENCE, MAX_BYTES).await;
    got.map_err(|reason| Finding::failure(format!("Envoy at {host} cannot be reached: {reason}"), advice))
}

pub(super) async fn build(examined: &Examined) -> Checked {
    Ok(judge_build(&ask(examined, Policy::PROBE_PATH).await?))
}

fn judge_build(answer: &Got) -> Finding {
    let Some(build) = answer.header(headers::BUILD) else {
        return Finding::failure(
            format!("the answer (status {}) names no build of the filter", answer.status),
            "check that `doctor.envoy_url` is Envoy's operators' listener, and run `guardctl status`",
        );
    };
    let version = env!("CARGO_PKG_VERSION");
    if build.starts_with(&format!("{}-", version.replace('.', "-"))) {
        return Finding::pass(format!("Envoy uses the filter's build {build}"));
    }
    Finding::warning(
        format!("Envoy uses the filter's build {build}, which is not of this backend's version {version}"),
        "publish the filter of this version, unless an upgrade is under way",
    )
}

pub(super) async fn proof(examined: &Examined) -> Checked {
    Ok(judge_proof(&ask(examined, Policy::PROVE_PATH).await?))
}

fn judge_proof(answer: &Got) -> Finding {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, body["status"].as_str(), body["code"].as_str()) {
        (200, Some("proven"), _) => Finding::pass("the backend that Envoy reaches knows the filter's proof"),
        (_, _, Some("unproven")) => Finding::failure(
            "the backend that Envoy reaches does not know the filter's proof, so it answers 503 to every event",
            "set `ingest.proof` to the proof with which the filter was published, or publish the filter with the \
             backend's",
        ),
        (404, ..) => Finding::not_checked(
            "Envoy or the filter is too old to ask a backend for its proof",
            "render Envoy's bootstrap again, and publish the filter of this version",
        ),
        (status, ..) => Finding::failure(
            format!("Envoy reaches no backend (status {status})"),
            "check that a backend runs, and its address in Envoy's bootstrap",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn the_build_should_be_of_the_backends_version() {
        let own = format!("{}-0123456789ab-fedcba98", env!("CARGO_PKG_VERSION").replace('.', "-"));
        for (build, status) in [
            (Some(own.as_str()), Status::Pass),
            (Some("9-9-9-0123456789ab-fedcba98"), Status::Warning),
            (None, Status::Failure),
        ] {
            let answer = Got::with_header(headers::BUILD, build);
            assert_eq!(judge_build(&answer).status, status, "{build:?}");
        }
    }

    #[test]
    fn an_unknown_proof_is_told_from_an_unreachable_backend() {
        for (status, body, expected, said) in [
            (200, json!({ "status": "proven" }), Status::Pass, "knows the filter's proof"),
            (503, json!({ "code": "unproven" }), Status::Failure, "does not know the filter's proof"),
            (503, json!({ "code": "unavailable" }), Status::Failure, "reaches no backend"),
            (404, Value::Null, Status::Warning, "too old"),
            (200, json!({}), Status::Failure, "reaches no backend"),
        ] {
            let body = body.to_string().into_bytes();
            let finding = judge_proof(&Got { status, body, ..Got::default() });
            assert!(finding.status == expected && finding.found.contains(said), "{finding:?}");
        }
    }
}
