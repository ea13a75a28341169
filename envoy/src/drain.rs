//! Runs Envoy, and drains it before it stops.
//!
//! Envoy itself stops about 30 ms after SIGTERM, and cuts off the requests in flight. Here a signal
//! first makes Envoy report that it is not ready, so that load balancers send new requests
//! elsewhere. Then Envoy closes its listeners, and stops when no request is in flight or the time
//! limit has passed. Another SIGTERM stops it at once.

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

mod supervise;

pub use supervise::run;

/// How to drain Envoy.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The URL of Envoy's admin interface, for example `http://127.0.0.1:9901`.
    pub admin: String,
    /// The time that load balancers have to notice that Envoy is not ready. Until then it accepts
    /// connections.
    pub notice: Duration,
    /// The longest time until Envoy stops. Includes `notice`.
    pub limit: Duration,
}

/// The time without a request in flight after which Envoy stops. A client may have connected but
/// not yet sent the first byte of its request.
const QUIET: Duration = Duration::from_millis(500);
/// The time between two questions to Envoy.
const INTERVAL: Duration = Duration::from_millis(100);
/// The longest time for one question to the admin interface.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Drain {
    /// Makes Envoy unready, and waits until it may stop.
    fn wait(&self) {
        let began = Instant::now();
        for path in ["/healthcheck/fail", "/drain_listeners?graceful"] {
            if let Err(error) = self.post(path) {
                return tell(&format!("cannot drain Envoy, stopping it at once: {}{path}: {error}", self.admin));
            }
        }
        let mut quiet_since = None;
        while began.elapsed() < self.limit {
            let in_flight = match self.requests_in_flight() {
                Ok(in_flight) => in_flight,
                Err(error) => {
                    return tell(&format!("cannot tell which requests are in flight, stopping Envoy at once: {error}"));
                }
            };
            quiet_since = (in_flight == 0).then(|| quiet_since.unwrap_or_else(Instant::now));
            let is_quiet = quiet_since.is_some_and(|since| since.elapsed() >= QUIET);
            if is_quiet && began.elapsed() >= self.notice {
                return tell("no request is in flight, stopping Envoy");
            }
            thread::sleep(INTERVAL);
        }
        tell("--drain-seconds have passed, stopping Envoy with requests in flight");
    }

    fn post(&self, path: &str) -> Result<(), ureq::Error> {
        agent().post(format!("{}{path}", self.admin)).send_empty().map(drop)
    }

    fn requests_in_flight(&self) -> Result<u64, String> {
        let url = format!("{}/stats?filter=%5Ehttp%5C.edge%5C.downstream_rq_active$", self.admin);
        let mut answer = agent().get(&url).call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let value = text.trim().strip_prefix("http.edge.downstream_rq_active: ");
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("{url} has no such metric"))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build().into()
}

/// Writes a line to standard error, where Envoy logs as well.
fn tell(line: &str) {
    _ = writeln!(io::stderr(), "guardctl: {line}");
}
