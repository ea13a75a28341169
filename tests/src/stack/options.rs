//! The options of a stack, and their usual values.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::group;

/// What a stack is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where data and logs go; a temporary folder where none is given.
    pub folder: Option<PathBuf>,
    /// The port that takes webhooks; a free one where none is given.
    pub edge_port: Option<u16>,
    /// A Redis that runs already; one of our own where none is given.
    pub redis_url: Option<String>,
    /// Several Redis servers in place of one.
    pub group: Option<group::Kind>,
    /// The filter's policy.
    pub policy: Value,
    /// The address at which the simulator plays the Partner API and the application, `http://127.0.0.1:…`.
    pub simulator: String,
    /// Options of Envoy's bootstrap that are switched on.
    pub enable: Vec<&'static str>,
    /// More values of Envoy's bootstrap.
    pub bootstrap: Vec<(&'static str, String)>,
    /// How many backends there are besides the first, up to 2.
    pub replicas: usize,
    /// A protection of the backends that is taken out: see `backend::mutation`.
    pub mutation: Option<String>,
    /// The package and program that is the backend.
    pub program: &'static str,
    /// More settings of the backends, by their names in the environment.
    pub backend: Vec<(&'static str, String)>,
    /// Whether each backend reaches Redis, the Partner API and the application through proxies of its own. The stack must
    /// then be started within a tokio runtime of several threads.
    pub proxied: bool,
    /// Whether each backend has a clock of its own, which can be set. It takes [`tools::faketime`].
    pub clocks: bool,
}

impl Options {
    /// The usual stack beside a simulator at that address.
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
            program: "backend",
            backend: Vec::new(),
            proxied: false,
            clocks: false,
        }
    }

    /// The same with one more setting of the backend.
    #[must_use]
    pub fn backend(mut self, name: &'static str, value: impl ToString) -> Self {
        self.backend.push((name, value.to_string()));
        self
    }
}
