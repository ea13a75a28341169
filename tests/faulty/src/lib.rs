//! A broken filter for the tests of publication: it answers the publisher's probes as the real
//! filter does, and fails at all other requests.
//!
//! The policy's `max_depth` selects the failure: 10 crashes, 11 rejects with `invalid_field`, 12
//! answers 500. A setting of its own is not possible, because the publisher validates settings with
//! the real filter's code.

#![expect(missing_docs, reason = "the macro `proxy_wasm::main` generates undocumented items")]

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, BufferType, ContextType, MapType, MetricType},
};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { settings: String::new(), rejected: 0 }));
}}

struct Root {
    settings: String,
    rejected: u32,
}

struct Request {
    settings: String,
    rejected: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let settings = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten();
        self.settings = String::from_utf8(settings.unwrap_or_default()).unwrap_or_default();
        let counter = hostcalls::define_metric(MetricType::Counter, "truenroll_filter_requests_code=invalid_field");
        self.rejected = counter.unwrap_or_default();
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { settings: self.settings.clone(), rejected: self.rejected }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // The capability list does not allow reading a single header.
        let headers = hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default();
        let path = headers.into_iter().find_map(|(name, value)| (name == ":path").then_some(value));
        let build = text(&self.settings, "build");
        match path.as_deref() {
            Some(b"/-/guardctl") => reply(404, &[("x-edge-build", build)]),
            Some(b"/-/guardctl/prove") => {
                let judgement = [text(&self.settings, "proof"), ";", build, ";probe"].concat();
                _ = hostcalls::add_map_value_bytes(MapType::HttpRequestHeaders, "x-edge-judged", judgement.as_bytes());
                Action::Continue
            }
            _ if self.settings.contains("\"max_depth\":10") => trap(),
            _ if self.settings.contains("\"max_depth\":11") => {
                _ = hostcalls::increment_metric(self.rejected, 1);
                reply(422, &[])
            }
            _ => reply(500, &[]),
        }
    }
}

fn reply(status: u32, headers: &[(&str, &str)]) -> Action {
    _ = hostcalls::send_http_response(status, headers.to_vec(), Some(b"{}"));
    Action::Pause
}

/// The value of a string member of the settings, as the publisher writes them.
fn text<'a>(settings: &'a str, name: &str) -> &'a str {
    let start = ["\"", name, "\":\""].concat();
    settings.split_once(&start).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
}

#[expect(clippy::panic, reason = "this filter is meant to crash")]
fn trap() -> Action {
    panic!("this filter is meant to crash")
}
