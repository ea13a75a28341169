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

/// The policy `settings`, which also accepts the kind of authenticity of `or`.
fn with_or(mut settings: Value, or: Value) -> Value {
    let none = || json!({ "kind": "none" });
    let or = or.get("authenticity").cloned().unwrap_or_else(none);
    settings["authenticity"] = settings.get("authenticity").cloned().unwrap_or_else(none);
    settings["authenticity"]["or"] = or;
    settings
}

#[test]
fn codes_that_anyone_can_cause_are_not_authenticated() {
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
fn a_stricter_policy_introduces_the_codes_of_its_new_rejections() {
    use Code::*;
    let tokens = |tokens: &[&str]| json!({ "authenticity": { "kind": "path_token", "tokens": tokens } });
    let one = tokens(&[TOKEN]);
    let both = tokens(&[TOKEN, "fedcba9876543210"]);
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
fn a_build_is_judged_by_authenticated_requests_only() {
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
        // Rejections that strangers caused before do not hide those that the build causes now.
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
fn a_snapshot_is_read_from_envoys_metrics() {
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
    assert_eq!(read, Snapshot { rejected_updates: 5, crashes: 3, failed: 4, answered: 6, verdicts });
}
