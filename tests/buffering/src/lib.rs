//! A baseline for the benchmark: a filter that waits for the whole request, as ours must, and
//! decides nothing.
//!
//! With the configuration `calls` it also makes the host calls that any filter of this kind needs:
//! it reads the headers and the body, adds a header, and counts. Its cost is the lower bound for
//! any such filter.

#![expect(missing_docs, reason = "the macro `proxy_wasm::main` generates undocumented items")]

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
    /// The counter; `None` if no host calls are to be made.
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
            // Reading one header costs Envoy as much as reading all of them, and costs the SDK much
            // less.
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

/// A header value of the same length as the filter's.
const JUDGED: &[u8] = b"a-proof-for-this-machine-alone;bench;accepted";
