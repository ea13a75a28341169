//! The implementations that are compared.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;
use harness::{
    process::{Process, free_port},
    tools,
};
use serde_json::{Value, json};

/// An Envoy with one implementation.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Whether it decides anything, and so rejects invalid events.
    pub(crate) decides: bool,
    pub(crate) port: u16,
    pub(crate) envoy: Process,
}

const ALONE: &str = "Envoy without a filter";
const BUFFERING: &str = "a filter that only buffers the body";
const CALLS: &str = "a filter that only makes the same host calls";

/// Starts an Envoy with one worker for each implementation.
pub(crate) fn start_all(folder: &Path, upstream: u16, ext_proc: u16, only: &[String]) -> Result<Vec<Variant>> {
    let filter = fs::canonicalize(tools::wasm_filter()?)?;
    let buffering = fs::canonicalize(tools::wasm_module("buffering", &[])?)?;
    let settings = json!({ "build": "bench", "proof": "a-proof-for-this-machine-alone" });
    let filters = [
        (ALONE, None),
        (BUFFERING, Some(wasm(&buffering, &json!({})))),
        (CALLS, Some(wasm(&buffering, &json!("calls")))),
        ("this filter", Some(wasm(&filter, &settings))),
        ("Lua", Some(lua())),
        ("ext_proc", Some(ask())),
    ];
    let is_wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let wanted = filters.into_iter().filter(|(name, filter)| filter.is_none() || is_wanted(name));
    wanted.map(|(name, filter)| start(folder, name, filter, upstream, ext_proc)).collect()
}

fn wasm(module: &Path, settings: &Value) -> Value {
    let response = envoy::ecds::response("bench", module, settings);
    let mut config = response["resources"][0]["typed_config"].clone();
    let allowed = &mut config["config"]["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
    allowed["proxy_get_header_map_value"] = json!({});
    json!({ "name": "truenroll_filter", "typed_config": config })
}

fn lua() -> Value {
    json!({ "name": "lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": { "inline_string": include_str!("checks.lua") },
    }})
}

fn ask() -> Value {
    json!({ "name": "ext_proc", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": { "envoy_grpc": { "cluster_name": "ext_proc" } },
        "processing_mode": {
            "request_header_mode": "SEND", "request_body_mode": "BUFFERED", "response_header_mode": "SKIP",
        },
    }})
}

fn start(folder: &Path, name: &'static str, filter: Option<Value>, upstream: u16, ext_proc: u16) -> Result<Variant> {
    let port = free_port()?;
    let admin = free_port()?;
    let router = json!({ "name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let filters: Vec<_> = filter.into_iter().chain([router]).collect();
    let manager = json!({
        "@type":
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": true,
        "normalize_path": true,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "route": { "cluster": "upstream" } },
        ]}]},
        "http_filters": filters,
    });
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    }});
    let bootstrap = json!({
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": [{ "name": "edge", "address": address(port), "filter_chains": [{ "filters": [
                { "name": "http", "typed_config": manager },
            ]}]}],
            "clusters": [
                cluster("upstream", upstream, json!({})),
                cluster("ext_proc", ext_proc, http2),
            ],
        },
    });
    let file = folder.join(format!("{}.json", name.replace(' ', "-")));
    fs::write(&file, bootstrap.to_string())?;
    let mut command = Command::new(tools::envoy()?);
    command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    let mut envoy = Process::start("envoy", &mut command, &file.with_extension("log"))?;
    envoy.wait_until(Duration::from_secs(30), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let decides = !matches!(name, ALONE | BUFFERING | CALLS);
    Ok(Variant { name, decides, port, envoy })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn cluster(name: &str, port: u16, options: Value) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s", "typed_extension_protocol_options": options,
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
            { "endpoint": { "address": address(port) } },
        ]}]},
    })
}
