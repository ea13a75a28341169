//! The implementations that are compared.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;
use harness::{
    process::{Process, free_port},
    tools,
};
use serde_json::{Value, json};

use crate::native;

/// An Envoy with one implementation.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// The status with which it rejects an undocumented event; `None` if it decides nothing.
    pub(crate) rejects_with: Option<u16>,
    pub(crate) port: u16,
    pub(crate) envoy: Process,
}

const ALONE: &str = "Envoy without a filter";
const BUFFERING: &str = "a filter that only buffers the body";
const CALLS: &str = "a filter that only makes the same host calls";
/// What all others are compared with.
pub(crate) const THIS: &str = "this filter";
/// The status with which Envoy's own filters reject a request.
const FORBIDDEN: u16 = 403;
/// The status with which the others reject it.
const UNPROCESSABLE: u16 = 422;

/// Starts an Envoy with one worker for each implementation.
pub(crate) fn start_all(folder: &Path, upstream: u16, ext_proc: u16, only: &[String]) -> Result<Vec<Variant>> {
    let filter = fs::canonicalize(tools::wasm_filter()?)?;
    let buffering = fs::canonicalize(tools::wasm_module("buffering", &[])?)?;
    let settings = json!({ "build": "bench", "proof": "a-proof-for-this-machine-alone" });
    let filters = [
        (ALONE, None, vec![]),
        (BUFFERING, None, vec![wasm(&buffering, &json!({}))]),
        (CALLS, None, vec![wasm(&buffering, &json!("calls"))]),
        (THIS, Some(UNPROCESSABLE), vec![wasm(&filter, &settings)]),
        ("Envoy's own filters", Some(FORBIDDEN), native::simple()),
        ("Envoy's own filters, strict", Some(FORBIDDEN), native::strict()),
        ("Lua", Some(UNPROCESSABLE), vec![lua()]),
        ("ext_proc", Some(UNPROCESSABLE), vec![ask()]),
    ];
    let is_wanted =
        |name: &str| [ALONE, THIS].contains(&name) || only.is_empty() || only.iter().any(|part| name.contains(part));
    let wanted = filters.into_iter().filter(|(name, ..)| is_wanted(name));
    let start = |(name, rejects_with, filters)| {
        let (port, envoy) = start(folder, name, filters, upstream, ext_proc)?;
        Ok(Variant { name, rejects_with, port, envoy })
    };
    wanted.map(start).collect()
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

fn start(folder: &Path, name: &str, filters: Vec<Value>, upstream: u16, ext_proc: u16) -> Result<(u16, Process)> {
    let port = free_port()?;
    let admin = free_port()?;
    let router = json!({ "name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }});
    let filters: Vec<_> = filters.into_iter().chain([router]).collect();
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
        // Envoy refuses long regular expressions by default.
        "layered_runtime": { "layers": [
            { "name": "regex", "static_layer": { "re2.max_program_size.error_level": 10_000 } },
        ]},
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
    let file = folder.join(format!("{}.json", name.replace([' ', '\'', ','], "-")));
    fs::write(&file, bootstrap.to_string())?;
    let mut command = Command::new(tools::envoy()?);
    command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    let mut envoy = Process::start("envoy", &mut command, &file.with_extension("log"))?;
    envoy.wait_until(Duration::from_secs(30), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok((port, envoy))
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
