//! Whether traffic speaks against a build, judged only by what a stranger cannot forge.
//!
//! Anyone can make a filter reject requests, and 20 of them after a swap must not decide about a publication. What counts is:
//! the filter crashed; Envoy's own answers fail; or authenticated requests are rejected more often than before. A request
//! counts as authenticated if it was accepted, or rejected with a code that needs a token or signature to reach
//! ([`authenticated_codes`]), without the codes that the change of policy makes likely ([`introduced_codes`]).

use std::collections::BTreeMap;

use envelope::{
    Authenticity, Code, Policy,
    policy::{Mode, Statement, UnknownEvents, UnknownFields},
};

use crate::ecds::FILTER;

/// What Envoy and the filter have counted since Envoy started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Updates of the filter that Envoy refused.
    pub refused_updates: u64,
    /// Crashes of the filter's VM, by the attempts to start it again.
    pub crashes: u64,
    /// Answers on the public listener with a status of 500 and above.
    pub failed: u64,
    /// Answers on the public listener with a status below 400.
    pub answered: u64,
    /// Requests by the filter's verdict.
    pub verdicts: BTreeMap<String, u64>,
}

/// Fewer requests than these say nothing.
const TELLING: u64 = 20;

impl Snapshot {
    /// Reads Envoy's metrics.
    ///
    /// # Errors
    /// The name of a metric that every Envoy with the filter has, where it is missing.
    pub fn parse(metrics: &str) -> Result<Self, String> {
        let refused_updates = format!("envoy_extension_config_discovery_http_filter_{FILTER}_update_rejected");
        let (crashes, verdicts) = (format!("envoy_wasm_{FILTER}_vm_reload"), format!("{FILTER}_requests"));
        let mut snapshot = Self::default();
        let mut found = false;
        for line in metrics.lines() {
            let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let value: u64 = value.parse().unwrap_or_default();
            let label = |name: &str| labels.split(name).nth(1)?.split('"').next();
            if name == refused_updates {
                snapshot.refused_updates = value;
                found = true;
            } else if name.starts_with(&crashes) {
                snapshot.crashes += value;
            } else if name == verdicts {
                *snapshot.verdicts.entry(label("code=\"").unwrap_or_default().to_owned()).or_default() += value;
            } else if name == "envoy_http_downstream_rq_xx" && labels.contains("_prefix=\"edge\"") {
                match label("response_code_class=\"") {
                    Some("5") => snapshot.failed += value,
                    Some("2" | "3") => snapshot.answered += value,
                    _ => {}
                }
            }
        }
        if found { Ok(snapshot) } else { Err(refused_updates) }
    }

    /// What has been counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let verdict = |(code, count): (&String, &u64)| {
            (code.clone(), count.saturating_sub(before.verdicts.get(code).copied().unwrap_or_default()))
        };
        Self {
            refused_updates: self.refused_updates.saturating_sub(before.refused_updates),
            crashes: self.crashes.saturating_sub(before.crashes),
            failed: self.failed.saturating_sub(before.failed),
            answered: self.answered.saturating_sub(before.answered),
            verdicts: self.verdicts.iter().map(verdict).collect(),
        }
    }

    /// The share of failures among the answers that are not 4xx, 0 to 1; none where there are too few to tell.
    fn failed_share(&self) -> Option<f64> {
        share(self.failed, self.answered)
    }

    /// The share of requests rejected with one of `codes` among those and the accepted ones, 0 to 1; none where there are too
    /// few to tell.
    fn rejected_share(&self, codes: &[Code]) -> Option<f64> {
        let count = |code: &str| self.verdicts.get(code).copied().unwrap_or_default();
        let rejected = codes.iter().map(|code| count(code.as_str())).sum();
        share(rejected, count("accepted") + count("quarantined"))
    }
}

fn share(bad: u64, good: u64) -> Option<f64> {
    (bad + good >= TELLING).then(|| bad as f64 / (bad + good) as f64)
}

/// What speaks against a build.
#[derive(Debug, Clone)]
pub struct Judge {
    /// What was counted before the swap, since Envoy started.
    before: Snapshot,
    /// The codes that are looked at.
    codes: Vec<Code>,
    /// The usual share of rejected requests.
    usual: f64,
    /// By how much a share may rise, 0 to 1.
    max_rise: f64,
}

impl Judge {
    /// Judges the change from one policy to another. Without an old policy nothing is usual.
    pub fn new(before: Snapshot, old: Option<&Policy>, new: &Policy, max_rise: f64) -> Self {
        let introduced = old.map_or_else(Vec::new, |old| introduced_codes(old, new));
        let mut codes = authenticated_codes(new);
        codes.retain(|code| !introduced.contains(code));
        // What strangers could make up before is not a measure of what is usual.
        let known = old.map(authenticated_codes).unwrap_or_default();
        let usual: Vec<_> = codes.iter().copied().filter(|code| known.contains(code)).collect();
        let usual = before.rejected_share(&usual).unwrap_or_default();
        Self { before, codes, usual, max_rise }
    }

    /// Whether the filter has crashed since the swap, in a sentence.
    pub fn crash(&self, now: &Snapshot) -> Option<String> {
        let crashes = now.crashes.saturating_sub(self.before.crashes);
        (crashes > 0).then(|| format!("the filter crashed ({crashes} restarts of its VM)"))
    }

    /// What speaks against the build, in a sentence, given what was counted when it began to serve and now.
    pub fn objection(&self, begun: &Snapshot, now: &Snapshot) -> Option<String> {
        if let Some(crash) = self.crash(now) {
            return Some(crash);
        }
        let percent = |share: f64| share * 100.0;
        let during = now.since(begun);
        let failed = (during.failed_share().unwrap_or_default(), self.before.failed_share().unwrap_or_default());
        if failed.0 > failed.1 + self.max_rise {
            let (share, usual) = (percent(failed.0), percent(failed.1));
            return Some(format!("{share:.0} % of the answers are 5xx, where {usual:.0} % were before"));
        }
        let rejected = during.rejected_share(&self.codes).unwrap_or_default();
        (rejected > self.usual + self.max_rise).then(|| {
            let (share, usual) = (percent(rejected), percent(self.usual));
            format!("it rejects {share:.0} % of the authenticated requests, where {usual:.0} % were rejected before")
        })
    }
}

/// The codes that a request can get only with a valid token or signature, whichever of the policy's ways it uses.
pub fn authenticated_codes(policy: &Policy) -> Vec<Code> {
    let first = |authenticity: &Authenticity| match authenticity {
        Authenticity::None => Code::ALL.len(),
        Authenticity::PathToken { .. } => place(Code::NotFound) + 1,
        Authenticity::StandardWebhooks { .. } => place(Code::InvalidSignature) + 1,
    };
    let first = policy.ways().map(|(_, authenticity)| first(authenticity)).max().unwrap_or(Code::ALL.len());
    Code::ALL[first..].to_vec()
}

/// A code's place in the order of the checks.
fn place(code: Code) -> usize {
    Code::ALL.iter().position(|&other| other == code).unwrap_or(Code::ALL.len())
}

/// The codes of which a change of policy makes more rejections likely: they say nothing about the build.
pub fn introduced_codes(old: &Policy, new: &Policy) -> Vec<Code> {
    if (old.mode, new.mode) == (Mode::Shadow, Mode::Enforce) {
        return Code::ALL.to_vec();
    }
    let has_new_feature = new.disabled_features.iter().any(|feature| !old.disabled_features.contains(feature));
    let audience_required = (old.audience, new.audience) == (Statement::Optional, Statement::Required);
    let other_header = old.audience_header != new.audience_header;
    let changes = [
        (old.path != new.path || is_stricter_token(old, new), &[Code::NotFound][..]),
        (new.max_body_bytes < old.max_body_bytes, &[Code::PayloadTooLarge]),
        (is_stricter_signature(new), &[Code::MissingSignature, Code::StaleTimestamp, Code::InvalidSignature]),
        (new.max_depth < old.max_depth, &[Code::TooDeep]),
        (other_header, &[Code::WrongAudience, Code::DuplicateHeader]),
        (audience_required || other_header && new.audience == Statement::Required, &[Code::MissingAudience]),
        (
            (old.unknown_fields, new.unknown_fields) == (UnknownFields::Pass, UnknownFields::Reject),
            &[Code::InvalidField],
        ),
        (new.clock_skew_seconds < old.clock_skew_seconds, &[Code::InvalidField]),
        (
            (old.unknown_events, new.unknown_events) == (UnknownEvents::Quarantine, UnknownEvents::Reject),
            &[Code::UnknownEvent],
        ),
        (has_new_feature, &[Code::FeatureDisabled]),
    ];
    let introduced = changes.into_iter().filter(|(changed, _)| *changed).flat_map(|(_, codes)| codes.iter().copied());
    let introduced: Vec<_> = introduced.collect();
    Code::ALL.into_iter().filter(|code| introduced.contains(code)).collect()
}

/// Whether a path that was the webhook's no longer is.
fn is_stricter_token(old: &Policy, new: &Policy) -> bool {
    !suffixes(old).iter().all(|suffix| suffixes(new).contains(suffix))
}

/// What may follow the webhook's path: a token, or nothing.
fn suffixes(policy: &Policy) -> Vec<&str> {
    let suffixes = policy.ways().flat_map(|(_, authenticity)| match authenticity {
        Authenticity::PathToken { tokens } => tokens.iter().map(String::as_str).collect(),
        Authenticity::None | Authenticity::StandardWebhooks { .. } => vec![""],
    });
    suffixes.collect()
}

/// Whether a signature is asked for. Keys cannot be compared, so it may be one that the sender does not make yet.
fn is_stricter_signature(new: &Policy) -> bool {
    let has = |wanted: fn(&Authenticity) -> bool| new.ways().any(|(_, authenticity)| wanted(authenticity));
    has(|way| matches!(way, Authenticity::StandardWebhooks { .. })) && !has(|way| matches!(way, Authenticity::None))
}

#[cfg(test)]
mod tests {
    use envelope::settings::Table;
    use serde_json::{Value, json};

    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn policy(settings: &Value) -> Policy {
        Policy::read(Table::parse(settings.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn token() -> Value {
        json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } })
    }

    fn signatures() -> Value {
        json!({ "authenticity": { "kind": "standard_webhooks", "secrets": [SECRET] } })
    }

    /// The policy `settings`, under which what `or` asks for is accepted besides.
    fn with_or(mut settings: Value, or: Value) -> Value {
        let none = || json!({ "kind": "none" });
        let or = or.get("authenticity").cloned().unwrap_or_else(none);
        settings["authenticity"] = settings.get("authenticity").cloned().unwrap_or_else(none);
        settings["authenticity"]["or"] = or;
        settings
    }

    #[test]
    fn codes_that_anyone_can_produce_are_not_authenticated() {
        assert_eq!(authenticated_codes(&policy(&json!({}))), []);
        assert_eq!(authenticated_codes(&policy(&token())), Code::ALL[1..]);
        let either = |kind: Value, or: Value| authenticated_codes(&policy(&with_or(kind, or)));
        assert_eq!(either(token(), json!({})), []);
        let signed = authenticated_codes(&policy(&signatures()));
        assert_eq!(either(signatures(), token()), signed);
        assert_eq!(either(token(), signatures()), signed);
        assert_eq!((signed[0], signed.len()), (Code::EmptyBody, Code::ALL.len() - 9));
    }

    #[test]
    fn a_change_of_policy_introduces_the_codes_of_what_it_forbids() {
        use Code::*;
        let tokens = |tokens: &[&str]| json!({ "authenticity": { "kind": "path_token", "tokens": tokens } });
        let (one, both) = (tokens(&[TOKEN]), tokens(&[TOKEN, "fedcba9876543210"]));
        for (old, new, expected) in [
            (json!({}), json!({}), &[][..]),
            (json!({}), json!({ "max_depth": 8 }), &[TooDeep]),
            (json!({ "max_depth": 8 }), json!({}), &[]),
            (json!({}), json!({ "max_body_bytes": 100 }), &[PayloadTooLarge]),
            (json!({ "max_body_bytes": 100 }), json!({}), &[]),
            (json!({}), json!({ "audience": "required" }), &[MissingAudience]),
            (json!({ "audience": "required" }), json!({}), &[]),
            (json!({}), json!({ "audience_header": "x-other" }), &[DuplicateHeader, WrongAudience]),
            (
                json!({ "audience": "required" }),
                json!({ "audience": "required", "audience_header": "x-other" }),
                &[DuplicateHeader, WrongAudience, MissingAudience],
            ),
            (json!({}), json!({ "unknown_fields": "reject" }), &[InvalidField]),
            (json!({}), json!({ "clock_skew_seconds": 10 }), &[InvalidField]),
            (json!({}), json!({ "clock_skew_seconds": 1000 }), &[]),
            (json!({ "unknown_events": "quarantine" }), json!({}), &[UnknownEvent]),
            (json!({}), json!({ "unknown_events": "quarantine" }), &[]),
            (json!({}), json!({ "disabled_features": ["translation"] }), &[FeatureDisabled]),
            (json!({ "disabled_features": ["translation"] }), json!({}), &[]),
            (
                json!({ "disabled_features": ["translation"] }),
                json!({ "disabled_features": ["forensics"] }),
                &[FeatureDisabled],
            ),
            (json!({}), json!({ "path": "/other" }), &[NotFound]),
            (json!({}), token(), &[NotFound]),
            (token(), json!({}), &[NotFound]),
            (token(), with_or(json!({}), token()), &[]),
            (json!({}), with_or(token(), json!({})), &[]),
            (with_or(token(), json!({})), token(), &[NotFound]),
            (json!({}), with_or(signatures(), json!({})), &[]),
            (token(), with_or(signatures(), token()), &[MissingSignature, StaleTimestamp, InvalidSignature]),
            (one.clone(), both.clone(), &[]),
            (both, one, &[NotFound]),
            (json!({}), signatures(), &[MissingSignature, StaleTimestamp, InvalidSignature]),
            (token(), signatures(), &[NotFound, MissingSignature, StaleTimestamp, InvalidSignature]),
            (signatures(), json!({}), &[]),
            (json!({ "mode": "shadow" }), json!({}), &Code::ALL),
            (json!({}), json!({ "mode": "shadow" }), &[]),
        ] {
            assert_eq!(introduced_codes(&policy(&old), &policy(&new)), expected, "{old} to {new}");
        }
    }

    fn snapshot(accepted: u64, verdicts: &[(Code, u64)], failed: u64) -> Snapshot {
        let rejected = verdicts.iter().map(|(code, count)| (code.as_str().to_owned(), *count));
        let verdicts = rejected.chain([("accepted".to_owned(), accepted)]).collect();
        Snapshot { answered: accepted, failed, verdicts, ..Snapshot::default() }
    }

    #[test]
    fn a_build_is_judged_by_what_only_authenticated_senders_can_cause() {
        let nothing = Snapshot::default();
        let objects = |old: &Value, new: &Value, before: &Snapshot, now: &Snapshot| {
            Judge::new(before.clone(), Some(&policy(old)), &policy(new), 0.2).objection(&nothing, now).is_some()
        };
        let usual = snapshot(900, &[(Code::InvalidField, 100)], 0);
        let none = json!({});
        for (what, old, new, before, now, expected) in [
            ("too few", &token(), &token(), &nothing, snapshot(0, &[(Code::InvalidField, 19)], 0), false),
            ("enough", &token(), &token(), &nothing, snapshot(0, &[(Code::InvalidField, 20)], 0), true),
            ("as before", &token(), &token(), &usual, snapshot(80, &[(Code::InvalidField, 20)], 0), false),
            ("more than before", &token(), &token(), &usual, snapshot(65, &[(Code::InvalidField, 35)], 0), true),
            ("strangers", &token(), &token(), &nothing, snapshot(0, &[(Code::NotFound, 10_000)], 0), false),
            ("anyone", &none, &none, &nothing, snapshot(0, &[(Code::InvalidField, 10_000)], 0), false),
            ("forgeries", &none, &signatures(), &nothing, snapshot(0, &[(Code::MissingSignature, 9_999)], 0), false),
            // What strangers caused before does not hide what the build does now.
            ("hidden", &none, &token(), &usual, snapshot(75, &[(Code::InvalidField, 25)], 0), true),
            ("failures", &none, &none, &nothing, snapshot(15, &[], 5), true),
            ("few failures", &none, &none, &nothing, snapshot(95, &[], 5), false),
        ] {
            assert_eq!(objects(old, new, before, &now), expected, "{what}");
        }
        let crashed = Snapshot { crashes: 1, ..Snapshot::default() };
        assert!(objects(&none, &none, &nothing, &crashed));
        assert!(!objects(&none, &none, &crashed, &crashed));
    }

    #[test]
    fn envoy_s_metrics_are_read() {
        let text = "# TYPE truenroll_filter_requests counter\n\
            truenroll_filter_requests{code=\"accepted\"} 7\n\
            truenroll_filter_requests{code=\"not_found\"} 3\n\
            envoy_wasm_truenroll_filter_vm_reload_success{} 2\n\
            envoy_wasm_truenroll_filter_vm_reload_backoff{} 1\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"edge\"} 4\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"4\",envoy_http_conn_manager_prefix=\"edge\"} 9\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"metrics\"} 9\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"edge\"} 6\n";
        let missing = Snapshot::parse(text).unwrap_err();
        let read = Snapshot::parse(&format!("{text}{missing}{{}} 5\n")).unwrap();
        let verdicts = [("accepted".to_owned(), 7), ("not_found".to_owned(), 3)].into();
        assert_eq!(read, Snapshot { refused_updates: 5, crashes: 3, failed: 4, answered: 6, verdicts });
    }
}
