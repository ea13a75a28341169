//! The decision whether a request is a valid event for partners.
//!
//! It has three steps, so that the filter can reject a request as early as possible:
//! [`Head::check`] when the headers are complete, [`size`] while the body arrives, and [`body`]
//! when the body is complete. [`decide`] takes all three.

use crate::{
    Authenticity, Head, Policy, Statement, Timestamp, UnknownEvents, UnknownFields, Verdict,
    authenticity::{Shown, Way},
    head::{Audience, Claims},
    json::{self, Slot},
    problem::{Code, Field, Rejection},
};

/// A request that the decision lets pass.
#[derive(Debug)]
pub struct Passed<'a> {
    /// The event that it contains.
    pub verdict: Verdict<'a>,
    /// The way in which it is authentic.
    pub way: Way,
}

/// Decides on a whole request. Calls `now` only if the decision depends on the time.
///
/// # Errors
/// Returns the first rejection, in the order of [`Code::ALL`].
pub fn decide<'a>(
    head: &Head<'_>,
    bytes: &'a [u8],
    now: impl Fn() -> Timestamp,
    policy: &Policy,
) -> Result<Passed<'a>, Rejection> {
    let claims = head.check(policy, &now)?;
    size(bytes.len(), policy)?;
    body(&claims, bytes, now, policy)
}

/// Checks the size of a body of which `bytes` bytes have arrived.
///
/// # Errors
/// Returns `payload_too_large` if the body is too large already.
pub fn size(bytes: usize, policy: &Policy) -> Result<(), Rejection> {
    if bytes > policy.max_body_bytes {
        return Err(Rejection::new(Code::PayloadTooLarge));
    }
    Ok(())
}

/// Decides on a complete body, after the headers have been checked.
///
/// # Errors
/// Returns the first rejection, in the order of [`Code::ALL`].
pub fn body<'a>(
    claims: &Claims,
    bytes: &'a [u8],
    now: impl FnOnce() -> Timestamp,
    policy: &Policy,
) -> Result<Passed<'a>, Rejection> {
    let way = authenticate(&claims.shown, bytes, policy)?;
    let fields = json::scan(bytes, policy.max_depth)?;

    if claims.audience == Audience::Other {
        return Err(Rejection::new(Code::WrongAudience));
    }
    let mut stated = claims.audience == Audience::Partner;
    for (slot, field) in [(fields.audience, Field::Audience), (fields.payload_audience, Field::PayloadAudience)] {
        stated |= match slot {
            Slot::Absent | Slot::Null => false,
            Slot::Text(text) if text.is(Policy::AUDIENCE) => true,
            _ => return Err(Rejection::of_field(Code::WrongAudience, field)),
        };
    }
    if !stated && policy.audience == Statement::Required {
        return Err(Rejection::new(Code::MissingAudience));
    }

    if let (Some(object), UnknownFields::Reject) = (fields.unknown_in, policy.unknown_fields) {
        return Err(Rejection::of_field(Code::InvalidField, object));
    }
    let verdict = Verdict::from_fields(&fields, |occurred_at| {
        let latest = now().unix_seconds() + i64::from(policy.clock_skew_seconds);
        occurred_at.unix_seconds() <= latest
    })?;
    match verdict {
        Verdict::Quarantine(_) if policy.unknown_events == UnknownEvents::Reject => {
            Err(Rejection::of_field(Code::UnknownEvent, Field::EventName))
        }
        Verdict::Accept(envelope) if policy.disabled_features.contains(&envelope.event.feature) => {
            Err(Rejection::of_field(Code::FeatureDisabled, Field::EventName))
        }
        verdict => Ok(Passed { verdict, way }),
    }
}

/// Returns the way in which a request with this body is authentic.
fn authenticate(shown: &Shown, body: &[u8], policy: &Policy) -> Result<Way, Rejection> {
    if let Some((signed, way)) = &shown.signed {
        let is_verified =
            |(asked, authenticity): (Way, &Authenticity)| asked == *way && authenticity.verifies(signed, body);
        if policy.ways().any(is_verified) {
            return Ok(*way);
        }
    }
    shown.unsigned.ok_or(Rejection::new(Code::InvalidSignature))
}
