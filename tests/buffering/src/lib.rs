//! A filter that waits for the whole request, as the filter has to, and decides nothing.
//!
//! With the configuration `calls` it also makes the host calls that no filter of this kind can do without: it reads the
//! headers and the body, adds a header and counts. What that costs in Envoy is the least that any such filter costs.

#![expect(missing_docs, reason = "the host's macro documents nothing")]

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, BufferType, ContextType, MapType, MetricType},
};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { counter: None }));
}}

struct Root {
    counter: Option<u32>,
}

struct Request {
    /// Where to count, if host calls are to be made.
    counter: Option<u32>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten();
        if configuration.as_deref() == Some(b"\"calls\"") {
            self.counter = hostcalls::define_metric(MetricType::Counter, "buffering_requests").ok();
        }
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { counter: self.counter }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        if self.counter.is_some() {
            // One header costs the host as much as all of them, and the SDK much less.
            _ = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, ":path");
        }
        if end_of_stream { Action::Continue } else { Action::Pause }
    }

    fn on_http_request_body(&mut self, _: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            return Action::Pause;
        }
        if let Some(counter) = self.counter {
            _ = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, usize::MAX);
            _ = hostcalls::add_map_value_bytes(MapType::HttpRequestHeaders, "x-edge-judged", JUDGED);
            _ = hostcalls::increment_metric(counter, 1);
        }
        Action::Continue
    }
}

/// As long as the filter's.
const JUDGED: &[u8] = b"a-proof-for-this-machine-alone;bench;accepted";
