//! The resource that gives Envoy its filter (ECDS: extension config discovery service).

use std::path::Path;

use envelope::filter_settings::Settings;
use serde_json::{Value, json};

/// The filter's name in the bootstrap.
pub const FILTER: &str = "truenroll_filter";

/// The functions of the proxy-wasm ABI that the filter exports or imports, and no others.
///
/// The list restricts both directions: Envoy does not call an export that is not listed. Without
/// `proxy_on_request_trailers`, a request that ends with trailers would pass unjudged.
/// `proxy_on_done` and `proxy_on_log` are left out: the SDK exports them, but the filter does not
/// need them. Leaving them out saves two calls per request, 2 to 3 % of Envoy's CPU time.
const CAPABILITIES: [&str; 18] = [
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_delete",
    "proxy_log",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_send_local_response",
    "proxy_get_current_time_nanoseconds",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
];

/// Returns the discovery response that makes Envoy load the module at `wasm` with `settings`.
///
/// `version` only labels the update. Envoy compares the resource itself, which contains the
/// module's path and the settings, so it loads every new build, and no build twice.
pub fn response(version: &str, wasm: &Path, settings: &Value) -> Value {
    let capabilities: serde_json::Map<_, _> =
        CAPABILITIES.into_iter().map(|name| (name.to_owned(), json!({}))).collect();
    json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": FILTER,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": FILTER,
                    "failure_policy": "FAIL_RELOAD",
                    "allow_on_headers_stop_iteration": true,
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": { "local": { "filename": wasm } },
                        "capability_restriction_config": { "allowed_capabilities": capabilities },
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": settings.to_string(),
                    },
                },
            },
        }],
    })
}

/// Returns the filter's settings in a discovery response, if this version can read them.
pub fn settings(response: &Value) -> Option<Settings> {
    let value = &response["resources"][0]["typed_config"]["config"]["configuration"]["value"];
    Settings::parse(value.as_str()?.as_bytes()).ok()
}

/// Returns a capability that the filter needs and the discovery response omits, if there is one.
pub fn missing_capability(response: &Value) -> Option<&'static str> {
    let allowed = &response["resources"][0]["typed_config"]["config"]["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
    CAPABILITIES.into_iter().find(|name| allowed.get(name).is_none())
}
