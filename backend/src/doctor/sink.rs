//! The sink: whether the application or its stream can be reached, and what comes of a test.

use super::{Checked, Finding, examined::Examined, servers::worst};
use crate::{
    config::{self, SinkKind},
    sink::{self, Sink, SinkAnswer, StreamState},
    units::duration,
};

const CHECK_APPLICATION: &str =
    "check `sink.url`, that the application runs, and which certificates this machine trusts";

/// The share of `sink.max_length` from which on the stream is nearly full.
const MUCH_OF_STREAM: f64 = 0.75;

/// The finding if there is no application.
fn only_logged() -> Finding {
    Finding::warning(
        "`sink.kind` is \"log\", so outcomes are not delivered",
        "set `sink.kind` to \"http\" and `sink.url` to your application's URL, or `sink.kind` to \"redis\"",
    )
}

pub(super) async fn reachable(examined: &Examined) -> Checked {
    let sink = examined.sink.as_ref().map_err(|error| Finding::failure(error, CHECK_APPLICATION))?;
    if let Sink::Stream(stream) = sink {
        return Ok(judge_stream(&stream.examine().await?));
    }
    let answers = sink.reach().await.ok_or_else(only_logged)?;
    Ok(worst(answers.iter().map(judge_reached)))
}

fn judge_stream(StreamState { address, length, max_length }: &StreamState) -> Finding {
    let found = format!("{address} keeps outcomes; its stream has {length} of at most {max_length} entries");
    let advice = "check that the application reads, acknowledges and deletes entries, or raise `sink.max_length`";
    match *length as f64 / *max_length as f64 {
        1.0.. => Finding::failure(found, advice),
        MUCH_OF_STREAM.. => Finding::warning(found, advice),
        _ => Finding::pass(found),
    }
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
        (SinkKind::Redis, _) if sink::has_password(settings.redis_url.reveal()) => {
            Finding::pass("outcomes are not signed; whoever may write to the sink's Redis is trusted")
        }
        (SinkKind::Redis, _) => Finding::warning(
            "outcomes are not signed, and the sink's Redis is used without a password, so whoever reaches it can add some",
            "set `sink.redis_url_file` to a file with a URL that names a user and a password",
        ),
        (SinkKind::Http, false) => Finding::pass("outcomes are signed"),
        (SinkKind::Http, true) => Finding::warning(
            "outcomes are not signed, so the application cannot verify who sent them",
            "set `sink.secret` (or `sink.secret_file`) to `whsec_` followed by 24 to 64 random bytes in base64",
        ),
    }
}

pub(super) async fn test(examined: &Examined) -> Checked {
    let sink = examined.sink.as_ref().map_err(|error| Finding::failure(error, CHECK_APPLICATION))?;
    if let Sink::Stream(stream) = sink {
        let took = stream.test().await?;
        return Ok(Finding::pass(format!("a test was added to the stream and kept within {}", duration(took))));
    }
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
    use crate::{doctor::Status, sink::StreamError};

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
    fn a_stream_that_fills_is_noticed_before_it_is_full() {
        for (length, status, found) in [
            (0, Status::Pass, "has 0 of at most 100 entries"),
            (74, Status::Pass, "has 74 of"),
            (75, Status::Warning, "has 75 of"),
            (100, Status::Failure, "has 100 of"),
        ] {
            let finding = judge_stream(&StreamState { address: "host:1".to_owned(), length, max_length: 100 });
            assert!(finding.status == status && finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn an_error_of_the_stream_says_what_to_do() {
        for (error, advice) in [
            (StreamError::Full, "check that the application"),
            (StreamError::ReadOnly, "set `sink.redis_url`"),
            (StreamError::Unauthorized("NoPerm: User x".to_owned()), "check the user"),
        ] {
            let finding = Finding::from(error);
            let advises = finding.advice.as_ref().is_some_and(|said| said.starts_with(advice));
            assert!(finding.status == Status::Failure && advises, "{finding:?}");
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
