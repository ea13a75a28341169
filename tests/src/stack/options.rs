//! What a stack is made of, and the usual values.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::group;
use crate::backend_settings::BackendSettings;

/// What a stack is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for data and logs; `None` for a temporary one.
    pub folder: Option<PathBuf>,
    /// The port that takes webhooks; `None` for a free one.
    pub edge_port: Option<u16>,
    /// The URL of a Redis server that already runs; `None` to start one.
    pub redis_url: Option<String>,
    /// Several Redis servers instead of one.
    pub group: Option<group::Kind>,
    /// The filter's policy.
    pub policy: Value,
    /// The URL at which the simulator serves the Partner API and the sink, `http://127.0.0.1:…`.
    pub simulator: String,
    /// The options of Envoy's bootstrap that are switched on.
    pub enable: Vec<&'static str>,
    /// Further values of Envoy's bootstrap.
    pub bootstrap: Vec<(&'static str, String)>,
    /// The number of backends besides the first, at most 2.
    pub replicas: usize,
    /// The protection that is removed from the backends: see `backend::mutation`.
    pub mutation: Option<String>,
    /// The example of the crate `backend` that runs instead of the backend.
    pub example: Option<&'static str>,
    /// The settings of the backends that differ from the usual ones.
    pub backend: BackendSettings,
    /// Whether each backend reaches Redis, the Partner API and the sink through proxies of its own.
    /// If so, the stack must be started within a multi-threaded tokio runtime.
    pub proxied: bool,
    /// Whether each backend has a clock of its own that can be set. This takes libfaketime.
    pub clocks: bool,
}

impl Options {
    /// The usual stack, beside a simulator at that URL.
    pub fn new(simulator: impl Into<String>) -> Self {
        Self {
            folder: None,
            edge_port: None,
            redis_url: None,
            group: None,
            policy: json!({}),
            simulator: simulator.into(),
            enable: Vec::new(),
            bootstrap: Vec::new(),
            replicas: 0,
            mutation: None,
            example: None,
            backend: BackendSettings::default(),
            proxied: false,
            clocks: false,
        }
    }

    /// The same, with one more setting of the backends, by its name in `config.default.toml`.
    #[must_use]
    pub fn backend(mut self, name: &str, value: impl ToString) -> Self {
        self.backend.set(name, value);
        self
    }
}
