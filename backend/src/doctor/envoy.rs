//! Envoy, through its operators' listener: the filter's build, and whether the backends know the
//! filter's proof.

use std::time::Duration;

use envelope::{Policy, headers};
use serde_json::Value;

use super::{Checked, Finding, examined::Examined};
use crate::http_client;

/// An answer of Envoy or the filter.
#[derive(Debug, Default)]
pub(super) struct EnvoyAnswer {
    pub(super) status: u16,
    /// The build of the filter that judged the request.
    pub(super) build: Option<String>,
    /// What the filter requires of every request, as the answer to a probe states it.
    pub(super) requires: Option<String>,
    pub(super) body: Value,
}

/// How long Envoy may take for one answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// Asks Envoy.
///
/// # Errors
/// If Envoy does not answer, or its URL is not set.
pub(super) async fn ask(examined: &Examined, path: &str) -> Result<EnvoyAnswer, Finding> {
    let url = examined.subject.config.doctor.envoy_url.trim_end_matches('/');
    if url.is_empty() {
        return Err(Finding::not_checked(
            "`doctor.envoy_url` is not set",
            "set it to the URL of Envoy's operators' listener, such as http://envoy:9902",
        ));
    }
    let host = http_client::host_of(url).unwrap_or_default();
    let advice =
        "check `doctor.envoy_url`, and that Envoy runs and lets this machine connect to its operators' listener";
    let unreachable = |reason: String| Finding::failure(format!("Envoy at {host} cannot be reached: {reason}"), advice);
    let client = http_client::builder(PATIENCE).no_proxy().build();
    let client = client.map_err(|error| unreachable(http_client::reason(&error)))?;
    let url = format!("{url}{path}");
    let answer = client.get(url).send().await.map_err(|error| unreachable(http_client::reason(&error)))?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (build, requires) = (header(headers::BUILD), header(headers::REQUIRES));
    let status = answer.status().as_u16();
    let body = http_client::read_up_to(answer, MAX_ANSWER_BYTES).await;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(EnvoyAnswer { status, build, requires, body })
}

/// More than the filter or a backend answers.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

pub(super) async fn build(examined: &Examined) -> Checked {
    Ok(judge_build(&ask(examined, Policy::PROBE_PATH).await?))
}

fn judge_build(answer: &EnvoyAnswer) -> Finding {
    let Some(build) = &answer.build else {
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

fn judge_proof(answer: &EnvoyAnswer) -> Finding {
    match (answer.status, answer.body["status"].as_str(), answer.body["code"].as_str()) {
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
            let answer = EnvoyAnswer { status: 404, build: build.map(str::to_owned), ..EnvoyAnswer::default() };
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
            let finding = judge_proof(&EnvoyAnswer { status, body, ..EnvoyAnswer::default() });
            assert!(finding.status == expected && finding.found.contains(said), "{finding:?}");
        }
    }
}
