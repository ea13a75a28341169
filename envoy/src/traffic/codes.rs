//! Which codes of rejections say something about a build.

use envelope::{
    Authenticity, Code, Policy,
    policy::{Mode, Statement, UnknownEvents, UnknownFields},
};

/// Returns the codes that a request can get only with a valid token or signature, whichever of the
/// policy's ways it uses.
pub fn authenticated_codes(policy: &Policy) -> Vec<Code> {
    let first = |authenticity: &Authenticity| match authenticity {
        Authenticity::None => Code::ALL.len(),
        Authenticity::PathToken { .. } => place(Code::NotFound) + 1,
        Authenticity::StandardWebhooks { .. } => place(Code::InvalidSignature) + 1,
    };
    let first = policy.ways().map(|(_, authenticity)| first(authenticity)).max().unwrap_or(Code::ALL.len());
    Code::ALL[first..].to_vec()
}

/// Returns a code's position in the order of the checks.
fn place(code: Code) -> usize {
    Code::ALL.iter().position(|&other| other == code).unwrap_or(Code::ALL.len())
}

/// Returns the codes that a change of policy makes more likely. They say nothing about the build.
pub fn introduced_codes(old: &Policy, new: &Policy) -> Vec<Code> {
    if old.mode == Mode::Shadow && new.mode == Mode::Enforce {
        return Code::ALL.to_vec();
    }
    let has_new_feature = new.disabled_features.iter().any(|feature| !old.disabled_features.contains(feature));
    let audience_required = old.audience == Statement::Optional && new.audience == Statement::Required;
    let other_header = old.audience_header != new.audience_header;
    let changes = [
        (old.path != new.path || is_stricter_token(old, new), &[Code::NotFound][..]),
        (new.max_body_bytes < old.max_body_bytes, &[Code::PayloadTooLarge]),
        (is_stricter_signature(new), &[Code::MissingSignature, Code::StaleTimestamp, Code::InvalidSignature]),
        (new.max_depth < old.max_depth, &[Code::TooDeep]),
        (other_header, &[Code::WrongAudience, Code::DuplicateHeader]),
        (audience_required || other_header && new.audience == Statement::Required, &[Code::MissingAudience]),
        (
            old.unknown_fields == UnknownFields::Pass && new.unknown_fields == UnknownFields::Reject,
            &[Code::InvalidField],
        ),
        (new.clock_skew_seconds < old.clock_skew_seconds, &[Code::InvalidField]),
        (
            old.unknown_events == UnknownEvents::Quarantine && new.unknown_events == UnknownEvents::Reject,
            &[Code::UnknownEvent],
        ),
        (has_new_feature, &[Code::FeatureDisabled]),
    ];
    let mut introduced = Vec::new();
    for (has_changed, codes) in changes {
        if has_changed {
            introduced.extend_from_slice(codes);
        }
    }
    Code::ALL.into_iter().filter(|code| introduced.contains(code)).collect()
}

/// Whether a path that belonged to the webhook no longer does.
fn is_stricter_token(old: &Policy, new: &Policy) -> bool {
    !suffixes(old).iter().all(|suffix| suffixes(new).contains(suffix))
}

/// Returns what may follow the webhook's path: a token, or nothing.
fn suffixes(policy: &Policy) -> Vec<&str> {
    let suffixes = policy.ways().flat_map(|(_, authenticity)| match authenticity {
        Authenticity::PathToken { tokens } => tokens.iter().map(String::as_str).collect(),
        Authenticity::None | Authenticity::StandardWebhooks { .. } => vec![""],
    });
    suffixes.collect()
}

/// Whether the policy requires a signature. Keys cannot be compared, so senders may not make
/// signatures with its keys yet.
fn is_stricter_signature(new: &Policy) -> bool {
    let has = |wanted: fn(&Authenticity) -> bool| new.ways().any(|(_, authenticity)| wanted(authenticity));
    has(|way| matches!(way, Authenticity::StandardWebhooks { .. })) && !has(|way| matches!(way, Authenticity::None))
}
