use super::*;

/// The filter rejects the request with `code`.
fn rejected(status: u16, code: &str) -> Reply {
    Ok(Answer {
        status,
        build: Some("b1".to_owned()),
        rejection: Some(code.to_owned()),
        code: Some(code.to_owned()),
        ..Answer::default()
    })
}

/// Envoy or the backend answers, without any header of the edge.
fn bare(status: u16) -> Reply {
    Ok(Answer { status, ..Answer::default() })
}

/// An answer with a problem's code in its body, and no header of the edge.
fn problem(status: u16, code: &str) -> Reply {
    Ok(Answer { status, code: Some(code.to_owned()), ..Answer::default() })
}

fn stored() -> Reply {
    Ok(Answer {
        status: 202,
        build: Some("b1".to_owned()),
        event_key: Some("case.classification.completed:guardctl-verify:2026-01-01T00:00:00Z".to_owned()),
        ..Answer::default()
    })
}

fn shadowed() -> Reply {
    let build = Some("b1".to_owned());
    Ok(Answer { status: 422, build, shadow: Some("missing_field".to_owned()), ..Answer::default() })
}

/// The replies of a correctly configured edge.
fn healthy() -> Vec<(Check, Reply)> {
    vec![
        (Check::UnknownPath, rejected(404, "not_found")),
        (Check::WrongMethod, rejected(405, "method_not_allowed")),
        (Check::MalformedBody, rejected(400, "malformed_json")),
        (Check::IncompleteEvent, rejected(422, "missing_field")),
        (Check::ChunkedBody, rejected(422, "missing_field")),
        (Check::ForgedJudgement, rejected(422, "missing_field")),
        (Check::Trailers, rejected(422, "missing_field")),
        (Check::OtherGet("/other".to_owned()), bare(200)),
        (Check::OtherPost("/other".to_owned()), bare(404)),
        (Check::TestEvent, stored()),
    ]
}

const BODIES: [Check; 5] =
    [Check::MalformedBody, Check::IncompleteEvent, Check::ChunkedBody, Check::ForgedJudgement, Check::Trailers];

/// The faults that are found if `checks` get `reply` and all others the right one.
fn faults_if(checks: &[Check], reply: &Reply) -> Vec<Fault> {
    let mut replies = healthy();
    for (check, expected) in &mut replies {
        if checks.contains(check) {
            *expected = reply.clone();
        }
    }
    let mut faults: Vec<_> = judge(&replies).into_iter().flatten().collect();
    faults.dedup();
    faults
}

#[test]
fn a_correctly_configured_edge_has_no_fault() {
    assert_eq!(faults_if(&[], &bare(0)), []);
}

#[test]
fn each_misconfiguration_is_named() {
    let webhook: Vec<_> = healthy().into_iter().map(|(check, _)| check).filter(|check| !check.is_elsewhere()).collect();
    let known: Vec<_> = webhook.iter().filter(|check| **check != Check::UnknownPath).cloned().collect();
    let with_body: Vec<_> = BODIES.into_iter().chain([Check::TestEvent]).collect();
    let other = [Check::OtherGet("/other".to_owned()), Check::OtherPost("/other".to_owned())];
    let test_event = [Check::TestEvent];
    let unjudged = |callback, status| Fault::Unjudged { callback, status };
    for (what, checks, reply, expected) in [
        ("bodies hang", &with_body[..], Err(NoAnswer::Timeout), Fault::BodyHeldBack),
        ("bodies end in 504", &with_body, bare(504), Fault::BodyHeldBack),
        ("nothing is answered", &webhook[..1], Err(NoAnswer::Timeout), Fault::NoAnswer),
        ("no body callback", &BODIES[..3], bare(202), unjudged("proxy_on_request_body", 202)),
        (
            "no body callback, backend checks",
            &BODIES[..3],
            problem(503, "unproven"),
            unjudged("proxy_on_request_body", 503),
        ),
        ("no trailers callback", &[Check::Trailers], bare(202), unjudged("proxy_on_request_trailers", 202)),
        ("no trailers callback, retried", &[Check::Trailers], bare(504), unjudged("proxy_on_request_trailers", 504)),
        ("no headers callback", &[Check::WrongMethod], bare(200), unjudged("proxy_on_request_headers", 200)),
        ("headers are not removed", &[Check::ForgedJudgement], bare(503), Fault::ForgeryPassed(503)),
        ("no filter", &webhook, bare(202), Fault::FilterAbsent),
        ("no filter and no route", &webhook, bare(404), Fault::FilterAbsent),
        ("another client address", &webhook, problem(403, "client_not_allowed"), Fault::ClientNotAllowed),
        ("another path or no token", &known, rejected(404, "not_found"), Fault::WrongPath),
        ("no signature", &BODIES, rejected(401, "missing_signature"), Fault::Unsigned),
        ("shadow mode", &BODIES, shadowed(), Fault::Shadow),
        ("the other path is judged", &other, rejected(404, "not_found"), Fault::OtherPathJudged),
        ("another proof", &test_event, problem(503, "unproven"), Fault::Unproven),
        ("no backend", &test_event, problem(503, "unavailable"), Fault::Unavailable),
        ("no backend, Envoy's own answer", &test_event, bare(503), Fault::Unavailable),
        ("a slow backend", &test_event, bare(504), Fault::Unavailable),
        ("no route", &test_event, bare(404), Fault::NoRoute),
        (
            "a disabled feature",
            &test_event,
            rejected(422, "feature_disabled"),
            Fault::EventRejected("feature_disabled".into()),
        ),
        ("no event key", &test_event, bare(202), Fault::NoEventKey),
        ("an odd status", &test_event, bare(418), Fault::Unexpected(418)),
    ] {
        assert_eq!(faults_if(checks, &reply), [expected], "{what}");
    }
}

#[test]
fn a_missing_body_callback_is_told_from_a_body_that_is_withheld() {
    let mut replies = healthy();
    for (check, reply) in &mut replies {
        if check.has_plain_body() || *check == Check::TestEvent {
            *reply = bare(504);
        } else if *check == Check::Trailers {
            *reply = rejected(400, "empty_body");
        }
    }
    let mut faults: Vec<_> = judge(&replies).into_iter().flatten().collect();
    faults.dedup();
    assert_eq!(faults, [Fault::BodyUnseen]);
}

#[test]
fn an_unexpected_code_is_named_with_the_expected_one() {
    let fault = Fault::WrongCode { expected: "malformed_json", actual: "payload_too_large".to_owned() };
    assert_eq!(faults_if(&[Check::MalformedBody], &rejected(413, "payload_too_large")), [fault]);
}
