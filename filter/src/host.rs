//! The adapter to the proxy-wasm host. Apart from `abi`, only this file names `proxy_wasm`.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, UNIX_EPOCH},
};

use envelope::{Code, Timestamp, filter_settings::Settings, settings::SettingsError};
use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType},
};

use crate::{
    abi,
    request::{Begun, Counted, Host, RequestFilter, Step},
};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { loaded: None }));
}}

struct Root {
    loaded: Option<Rc<Loaded>>,
}

/// A configuration with its metrics.
struct Loaded {
    settings: Settings,
    metrics: Metrics,
}

struct Metrics {
    accepted: u32,
    quarantined: u32,
    rejected: [u32; Code::ALL.len()],
    shadowed: [u32; Code::ALL.len()],
    probed: u32,
    superseded: u32,
    body_bytes: u32,
    decision_nanoseconds: u32,
    /// The number of judged requests, to select those to measure.
    judged: Cell<u32>,
}

/// One request in this many is measured, because measuring takes four host calls. Each costs as
/// much as judging a small body.
const MEASURE_EVERY: u32 = 16;

struct Request {
    loaded: Rc<Loaded>,
    filter: RequestFilter,
}

/// The host calls. They apply to the request that the host is processing.
struct Calls<'a>(&'a Metrics);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX);
        let json = json.ok().flatten().unwrap_or_default();
        match Settings::parse(&json).and_then(Loaded::new) {
            Ok(loaded) => {
                self.loaded = Some(Rc::new(loaded));
                true
            }
            Err(error) => {
                _ = hostcalls::log(LogLevel::Error, &error.to_string());
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let loaded = Rc::clone(self.loaded.as_ref()?);
        Some(Box::new(Request { loaded, filter: RequestFilter::default() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Loaded {
    /// Defines the metrics. Envoy's bootstrap turns `_code=` and `_build=` in a name into labels.
    fn new(settings: Settings) -> Result<Self, SettingsError> {
        let define = |kind, name: &str| {
            hostcalls::define_metric(kind, name).map_err(|_| SettingsError {
                key: ".".to_owned(),
                problem: ["the host does not define the metric ", name].concat(),
            })
        };
        let counter = |name, code| define(MetricType::Counter, &format!("truenroll_filter_{name}_code={code}"));
        let mut rejected = [0; Code::ALL.len()];
        let mut shadowed = [0; Code::ALL.len()];
        for code in Code::ALL {
            rejected[code as usize] = counter("requests", code.as_str())?;
            shadowed[code as usize] = counter("shadowed", code.as_str())?;
        }
        let accepted = counter("requests", "accepted")?;
        let quarantined = counter("requests", "quarantined")?;
        let probed = define(MetricType::Counter, "truenroll_filter_probes")?;
        let superseded = define(MetricType::Counter, "truenroll_filter_superseded")?;
        let since =
            define(MetricType::Gauge, &format!("truenroll_filter_configured_seconds_build={}", settings.build))?;
        _ = hostcalls::record_metric(since, now().unix_seconds().cast_unsigned());
        let body_bytes = define(MetricType::Histogram, "truenroll_filter_body_bytes")?;
        let decision_nanoseconds = define(MetricType::Histogram, "truenroll_filter_decision_nanoseconds")?;
        let judged = Cell::new(0);
        let metrics = Metrics {
            accepted,
            quarantined,
            rejected,
            shadowed,
            probed,
            superseded,
            body_bytes,
            decision_nanoseconds,
            judged,
        };
        Ok(Self { settings, metrics })
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Loaded { settings, metrics } = &*self.loaded;
        self.filter.on_headers(end_of_stream, settings, &Calls(metrics)).into()
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Loaded { settings, metrics } = &*self.loaded;
        self.filter.on_body(size, end_of_stream, settings, &Calls(metrics)).into()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let Loaded { settings, metrics } = &*self.loaded;
        self.filter.on_trailers(settings, &Calls(metrics)).into()
    }
}

impl Host for Calls<'_> {
    fn request_headers(&self) -> Vec<u8> {
        abi::request_headers()
    }

    fn request_body(&self) -> Vec<u8> {
        hostcalls::get_buffer(BufferType::HttpRequestBody, 0, usize::MAX).ok().flatten().unwrap_or_default()
    }

    fn add_request_header(&self, name: &str, value: &[u8]) {
        _ = hostcalls::add_map_value_bytes(MapType::HttpRequestHeaders, name, value);
    }

    fn replace_request_header(&self, name: &str, value: Option<&[u8]>) {
        _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, value);
    }

    fn reply(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        _ = hostcalls::send_http_response(status.into(), headers.to_vec(), Some(body));
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn count(&self, counted: Counted) {
        let metric = match counted {
            Counted::Accepted => self.0.accepted,
            Counted::Quarantined => self.0.quarantined,
            Counted::Rejected(code) => self.0.rejected[code as usize],
            Counted::Shadowed(code) => self.0.shadowed[code as usize],
            Counted::Probed => self.0.probed,
            Counted::Superseded => self.0.superseded,
        };
        _ = hostcalls::increment_metric(metric, 1);
    }

    fn begin(&self) -> Option<Begun> {
        let judged = self.0.judged.get();
        self.0.judged.set(judged.wrapping_add(1));
        judged.is_multiple_of(MEASURE_EVERY).then(|| Begun(nanoseconds(since_epoch())))
    }

    fn end(&self, Begun(begun): Begun, body_bytes: usize) {
        let took = nanoseconds(since_epoch()).saturating_sub(begun);
        _ = hostcalls::record_metric(self.0.decision_nanoseconds, took);
        _ = hostcalls::record_metric(self.0.body_bytes, body_bytes as u64);
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix(since_epoch().as_secs().cast_signed())
}

fn since_epoch() -> Duration {
    let now = hostcalls::get_current_time().ok();
    now.and_then(|now| now.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl From<Step> for Action {
    fn from(step: Step) -> Self {
        match step {
            Step::Continue => Self::Continue,
            Step::Pause => Self::Pause,
        }
    }
}
