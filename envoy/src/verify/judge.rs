//! Compares the answers of an edge with those of a correctly configured one.

use super::{Answer, Check, Fault, NoAnswer};

type Reply = Result<Answer, NoAnswer>;

/// Returns the fault that each reply reveals, or none for a reply that is right.
///
/// One reply alone is often ambiguous: a 503 may come from a crashed filter or from a missing
/// backend. So each is judged in the light of the others.
pub fn judge(replies: &[(Check, Reply)]) -> Vec<Option<Fault>> {
    let others = Others::of(replies);
    replies.iter().map(|(check, reply)| fault(check, reply, &others)).collect()
}

/// What the replies as a whole show.
struct Others {
    /// Whether the filter itself answered a request to the webhook.
    filter_answers: bool,
    /// Whether the filter itself answered a request with a body and without trailers.
    filter_answers_bodies: bool,
    /// Whether the filter took a body for empty, as it does if Envoy did not call it when the body
    /// arrived.
    body_is_unseen: bool,
    /// Whether a request without a body got any answer.
    answers_without_body: bool,
}

impl Others {
    fn of(replies: &[(Check, Reply)]) -> Self {
        let mut others = Self {
            filter_answers: false,
            filter_answers_bodies: false,
            body_is_unseen: false,
            answers_without_body: false,
        };
        for (check, reply) in replies {
            let Ok(answer) = reply else { continue };
            if check.is_elsewhere() {
                continue;
            }
            let is_filters = answer.build.is_some();
            others.filter_answers |= is_filters;
            others.filter_answers_bodies |= is_filters && check.has_plain_body();
            others.body_is_unseen |= check.has_body() && answer.rejection.as_deref() == Some("empty_body");
            others.answers_without_body |= !check.has_body() && !is_timeout(answer);
        }
        others
    }
}

fn fault(check: &Check, reply: &Reply, others: &Others) -> Option<Fault> {
    match reply {
        Err(NoAnswer::NoConnection(error)) => Some(Fault::NoConnection(error.clone())),
        Err(NoAnswer::Broken(error)) => Some(Fault::Broken(error.clone())),
        Err(NoAnswer::Timeout) => Some(timeout_fault(check, others)),
        Ok(answer) if check.is_elsewhere() => is_judged(answer).then_some(Fault::OtherPathJudged),
        Ok(answer) if answer.code.as_deref() == Some("client_not_allowed") => Some(Fault::ClientNotAllowed),
        // Without a filter every request reaches the backend, whose 503 Envoy retries until 504.
        Ok(answer) if is_timeout(answer) && !others.filter_answers => Some(Fault::FilterAbsent),
        Ok(answer) if is_timeout(answer) => Some(timeout_fault(check, others)),
        Ok(answer) if answer.shadow.is_some() => Some(Fault::Shadow),
        Ok(answer) => match check.expected_code() {
            Some(expected) => rejection_fault(check, expected, answer, others),
            None => event_fault(answer, others),
        },
    }
}

/// Whether Envoy gave up waiting.
fn is_timeout(answer: &Answer) -> bool {
    answer.build.is_none() && matches!(answer.status, 408 | 504)
}

/// Whether the filter took part in the answer.
fn is_judged(answer: &Answer) -> bool {
    answer.build.is_some() || answer.rejection.is_some()
}

fn timeout_fault(check: &Check, others: &Others) -> Fault {
    if *check == Check::TestEvent && others.filter_answers_bodies {
        return Fault::Unavailable;
    }
    if !check.has_body() || check.is_elsewhere() || !others.answers_without_body {
        return Fault::NoAnswer;
    }
    if others.filter_answers_bodies {
        // The filter judges other bodies, so this request got past it: Envoy retries 503, and its
        // retries end in 504.
        return unjudged_fault(check, 504, others);
    }
    if others.body_is_unseen { Fault::BodyUnseen } else { Fault::BodyHeldBack }
}

/// Judges the answer to a request that the filter has to reject.
fn rejection_fault(check: &Check, expected: &'static str, answer: &Answer, others: &Others) -> Option<Fault> {
    let Some(actual) = answer.rejection.as_deref().filter(|_| answer.build.is_some()) else {
        return Some(unjudged_fault(check, answer.status, others));
    };
    if actual == expected {
        return None;
    }
    Some(match actual {
        "not_found" => Fault::WrongPath,
        "empty_body" => Fault::BodyUnseen,
        "missing_signature" | "stale_timestamp" | "invalid_signature" => Fault::Unsigned,
        _ => Fault::WrongCode { expected, actual: actual.to_owned() },
    })
}

/// Judges the answer to an invalid request that the filter did not reject.
fn unjudged_fault(check: &Check, status: u16, others: &Others) -> Fault {
    if !others.filter_answers {
        return Fault::FilterAbsent;
    }
    match check {
        Check::UnknownPath | Check::WrongMethod => Fault::Unjudged { callback: "proxy_on_request_headers", status },
        Check::Trailers => Fault::Unjudged { callback: "proxy_on_request_trailers", status },
        Check::ForgedJudgement if others.filter_answers_bodies => Fault::ForgeryPassed(status),
        _ => Fault::Unjudged { callback: "proxy_on_request_body", status },
    }
}

/// Judges the answer to a valid event.
fn event_fault(answer: &Answer, others: &Others) -> Option<Fault> {
    if !others.filter_answers {
        return Some(Fault::FilterAbsent);
    }
    let code = answer.rejection.as_deref().or(answer.code.as_deref());
    match (answer.status, code) {
        (200..=299, _) if answer.event_key.is_none() => Some(Fault::NoEventKey),
        (200..=299, _) => None,
        (503, Some("unproven")) => Some(Fault::Unproven),
        (503, _) => Some(Fault::Unavailable),
        (404, Some("not_found")) if answer.build.is_some() => Some(Fault::WrongPath),
        (404, _) if answer.build.is_none() => Some(Fault::NoRoute),
        (401, Some(_)) => Some(Fault::Unsigned),
        (_, Some(code)) => Some(Fault::EventRejected(code.to_owned())),
        (status, None) => Some(Fault::Unexpected(status)),
    }
}

#[cfg(test)]
mod tests;
