//! Envoy's own filters as a careful author would combine them: `buffer`, `json_to_metadata` and
//! `rbac` approximate the checks of the default policy without any code.

use std::iter::once;

use envelope::Feature;
use serde_json::{Value, json};

/// The namespace of the metadata that fields of the body are copied to.
const METADATA: &str = "event";
/// Dates of the calendar, with leap years.
const DATE: &str = concat!(
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))",
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)",
);
const TIME: &str =
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";

/// Checks the method, the path, the media type, the event's name, and that there is a case.
pub(crate) fn simple() -> Vec<Value> {
    let rules = head().into_iter().chain([name(), field("/payload/caseId", &json!({ "present_match": true }))]);
    filters(&["/eventName", "/payload/caseId"], rules)
}

/// Checks every field of the body and every header that the default policy names, as far as regular
/// expressions can.
pub(crate) fn strict() -> Vec<Value> {
    let fields = [
        "/eventName",
        "/payload/caseId",
        "/payload/occurredAt",
        "/payload/externalId",
        "/audience",
        "/payload/audience",
    ];
    let date = format!("{DATE}{TIME}");
    let absent = |name: &str| header(name, "present_match", &json!(false));
    let partner = &json!({ "string_match": { "exact": "partner" } });
    let rules = head().into_iter().chain([
        name(),
        field("/payload/caseId", &matches("[A-Za-z0-9_-]{1,128}")),
        field("/payload/occurredAt", &matches(&date)),
        optional("/payload/externalId", &matches("(?s).{1,128}")),
        optional("/audience", partner),
        optional("/payload/audience", partner),
        any([
            absent("x-truenroll-audience"),
            header("x-truenroll-audience", "string_match", &json!({ "exact": "partner" })),
        ]),
        any([
            absent("content-encoding"),
            header("content-encoding", "string_match", &json!({ "exact": "identity", "ignore_case": true })),
        ]),
    ]);
    filters(&fields, rules)
}

fn head() -> [Value; 3] {
    [
        header(":method", "string_match", &json!({ "exact": "POST" })),
        json!({ "url_path": { "path": { "exact": "/webhooks/truenroll" } } }),
        header("content-type", "string_match", &matches(MEDIA_TYPE)["string_match"]),
    ]
}

const MEDIA_TYPE: &str = "(?i)application/json[ \t]*(;[^,]*)?";

/// The event is one of the eight documented ones.
fn name() -> Value {
    let stages = ["completed", "failed"];
    let names = Feature::ALL.into_iter().flat_map(|feature| stages.map(|stage| format!("case.{feature}.{stage}")));
    let values: Vec<_> = names.map(|name| json!({ "string_match": { "exact": name } })).collect();
    field("/eventName", &json!({ "or_match": { "value_matchers": values } }))
}

fn matches(regex: &str) -> Value {
    json!({ "string_match": { "safe_regex": { "regex": regex } } })
}

fn header(name: &str, kind: &str, value: &Value) -> Value {
    json!({ "header": { "name": name, kind: value } })
}

/// A rule about a field of the body. It is not fulfilled if there is no such field.
fn field(pointer: &str, value: &Value) -> Value {
    json!({ "metadata": { "filter": METADATA, "path": [{ "key": pointer }], "value": value } })
}

fn optional(pointer: &str, value: &Value) -> Value {
    let is_absent = json!({ "not_rule": field(pointer, &json!({ "present_match": true })) });
    any([is_absent, field(pointer, &json!({ "null_match": {} })), field(pointer, value)])
}

fn any<const N: usize>(rules: [Value; N]) -> Value {
    json!({ "or_rules": { "rules": Vec::from(rules) } })
}

/// Returns the filters that copy fields of the body to the metadata and then demand all rules.
fn filters(fields: &[&str], rules: impl Iterator<Item = Value>) -> Vec<Value> {
    let copy = |pointer: &&str| {
        let selectors: Vec<_> = pointer.split('/').skip(1).map(|key| json!({ "key": key })).collect();
        let to = json!({ "metadata_namespace": METADATA, "key": pointer });
        json!({ "selectors": selectors, "on_present": to })
    };
    let copies: Vec<_> = fields.iter().map(copy).collect();
    let rules: Vec<_> = rules.collect();
    let filter = |name: &str, package: &str, config: Value| {
        let mut typed = config;
        typed["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{package}").into();
        json!({ "name": name, "typed_config": typed })
    };
    let copying = json!({ "request_rules": {
        "allow_content_types_regex": { "regex": MEDIA_TYPE },
        "rules": copies,
    }});
    let policy = json!({ "permissions": [{ "and_rules": { "rules": rules } }], "principals": [{ "any": true }] });
    once(filter("buffer", "buffer.v3.Buffer", json!({ "max_request_bytes": 16_384 })))
        .chain(once(filter("json_to_metadata", "json_to_metadata.v3.JsonToMetadata", copying)))
        .chain(once(filter(
            "rbac",
            "rbac.v3.RBAC",
            json!({ "rules": { "action": "ALLOW", "policies": { "event": policy } } }),
        )))
        .collect()
}
