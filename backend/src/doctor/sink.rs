//! The sink: whether the application can be reached, and what it answers to a signed test.

use super::{Checked, Finding, examined::Examined, servers::worst};
use crate::{
    config::{self, SinkKind},
    sink::SinkAnswer,
    units::duration,
};

const CHECK_APPLICATION: &str =
    "check `sink.url`, that the application runs, and which certificates this machine trusts";

/// The finding if there is no application.
fn only_logged() -> Finding {
    Finding::warning(
        "`sink.kind` is \"log\", so outcomes are not delivered",
        "set `sink.kind` to \"http\" and `sink.url` to your application's URL",
    )
}

pub(super) async fn reachable(examined: &Examined) -> Checked {
    let sink = examined.sink.as_ref().map_err(|error| Finding::failure(error, CHECK_APPLICATION))?;
    let answers = sink.reach().await.ok_or_else(only_logged)?;
    Ok(worst(answers.iter().map(judge_reached)))
}

/// Judges the answer to a HEAD request, which an application need not know.
fn judge_reached(SinkAnswer { host, status, took }: &SinkAnswer) -> Finding {
    match status {
        Err(reason) => Finding::failure(format!("{host} cannot be reached: {reason}"), CHECK_APPLICATION),
        Ok(status @ 500..) => Finding::warning(
            format!("{host} can be reached, but answered {status} to a HEAD request"),
            "check the application and the proxy in front of it, for example with `--probe-sink`",
        ),
        Ok(status @ 300..=399) => Finding::warning(
            format!("{host} can be reached, but answered {status} to a HEAD request"),
            "set `sink.url` to the URL itself: redirects are not followed",
        ),
        Ok(_) => Finding::pass(format!("{host} can be reached (an answer within {})", duration(*took))),
    }
}

pub(super) fn signature(settings: &config::Sink) -> Finding {
    match (settings.kind, settings.secret.reveal().is_empty()) {
        (SinkKind::Log, _) => only_logged(),
        (SinkKind::Http, false) => Finding::pass("outcomes are signed"),
        (SinkKind::Http, true) => Finding::warning(
            "outcomes are not signed, so the application cannot verify who sent them",
            "set `sink.secret` (or `sink.secret_file`) to `whsec_` followed by 24 to 64 random bytes in base64",
        ),
    }
}

pub(super) async fn test(examined: &Examined) -> Checked {
    let sink = examined.sink.as_ref().map_err(|error| Finding::failure(error, CHECK_APPLICATION))?;
    let answers = sink.test().await.ok_or_else(only_logged)?;
    Ok(worst(answers.iter().map(judge_tested)))
}

/// Judges the answer to a test.
fn judge_tested(SinkAnswer { host, status, took }: &SinkAnswer) -> Finding {
    let rejected = |status: u16, advice: &str| {
        Finding::failure(format!("{host} answered {status} to a signed test instead of 2xx"), advice)
    };
    match *status {
        Err(ref reason) => Finding::failure(format!("{host} cannot be reached: {reason}"), CHECK_APPLICATION),
        Ok(200..=299) => Finding::pass(format!("{host} accepted a signed test within {}", duration(*took))),
        Ok(status @ (401 | 403)) => {
            rejected(status, "check that `sink.secret` is the secret with which the application verifies signatures")
        }
        Ok(status @ 300..=399) => rejected(status, "set `sink.url` to the URL itself: redirects are not followed"),
        Ok(status @ (404 | 405)) => rejected(status, "check the path in `sink.url`"),
        Ok(status) => rejected(
            status,
            "check the application's log; it should answer 2xx to a request with `x-truenroll-test: true` and ignore it \
             (docs/OUTCOMES.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Status;

    fn answer(status: Result<u16, &str>) -> SinkAnswer {
        let status = status.map_err(str::to_owned);
        SinkAnswer { host: "https://app.example".to_owned(), status, took: Duration::from_millis(3) }
    }

    #[test]
    fn an_answer_shows_that_the_application_can_be_reached() {
        for (status, expected) in [
            (Ok(204), Status::Pass),
            (Ok(405), Status::Pass),
            (Ok(404), Status::Pass),
            (Ok(308), Status::Warning),
            (Ok(502), Status::Warning),
            (Err("invalid peer certificate: UnknownIssuer"), Status::Failure),
        ] {
            assert_eq!(judge_reached(&answer(status)).status, expected, "{status:?}");
        }
    }

    #[test]
    fn only_2xx_accepts_a_test_and_the_advice_fits_the_status() {
        assert_eq!(judge_tested(&answer(Ok(204))).status, Status::Pass);
        for (status, advice) in [
            (Ok(401), "`sink.secret`"),
            (Ok(301), "redirects"),
            (Ok(404), "the path in `sink.url`"),
            (Ok(400), "x-truenroll-test"),
            (Ok(500), "x-truenroll-test"),
            (Err("Connection refused"), "that the application runs"),
        ] {
            let finding = judge_tested(&answer(status));
            assert!(finding.status == Status::Failure && finding.advice.unwrap().contains(advice), "{status:?}");
        }
    }
}
