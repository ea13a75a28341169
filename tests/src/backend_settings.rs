//! The settings of a backend: the usual ones for a test, and what one test changes.

use std::{collections::BTreeMap, io::Write as _};

use anyhow::Result;
use backend::test_support::config::Config;
pub use simulator::{API_KEY, SINK_SECRET};

/// What the filter shows to the backend. On one machine's loopback interface it need not be secret.
pub const PROOF: &str = "a-proof-for-this-machine-alone";

/// The settings of one backend. A later value replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub struct BackendSettings {
    /// Values by the names in `config.default.toml`, such as `worker.lease_ms`.
    settings: BTreeMap<String, String>,
    /// Environment variables that are not settings of the backend.
    variables: BTreeMap<&'static str, String>,
}

impl BackendSettings {
    /// The settings of a backend that listens on these ports of the loopback interface. 0 stands
    /// for a free port.
    pub fn usual(ingest_port: u16, admin_port: u16) -> Self {
        Self::default()
            .with("ingest.listen", format!("127.0.0.1:{ingest_port}"))
            .with("ingest.proof", PROOF)
            .with("admin.listen", format!("127.0.0.1:{admin_port}"))
            .with("partner_api.api_key", API_KEY)
            // The reconciler's calls would consume answers that a test prepared for others.
            .with("reconciler.interval_s", 0)
            // Few of the simulator's cases ever finish, so a recommendation would wait in vain.
            .with("handler.wait_for_case_s", 0)
            // After a backend was killed, its partitions are free again after a second.
            .with("worker.lease_ms", 1_000)
    }

    /// The same, with the simulator at `url` as the Partner API and the sink.
    #[must_use]
    pub fn with_simulator(self, url: &str) -> Self {
        self.with("partner_api.base_url", format!("{url}/partner/v1"))
            .with("sink.kind", "http")
            .with("sink.url", format!("{url}/outcomes"))
            .with("sink.secret", SINK_SECRET)
    }

    /// The same, with one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// The same, with all of `others`.
    #[must_use]
    pub fn with_all(mut self, others: &Self) -> Self {
        self.settings.extend(others.settings.clone());
        self.variables.extend(others.variables.clone());
        self
    }

    /// Changes one setting.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// Returns one setting, if it has a value of its own.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Adds an environment variable that is not a setting.
    pub fn set_variable(&mut self, name: &'static str, value: impl ToString) {
        self.variables.insert(name, value.to_string());
    }

    /// The environment variables for a backend's process.
    pub fn environment(&self) -> impl Iterator<Item = (String, &String)> {
        let settings = self.settings.iter().map(|(name, value)| (variable_of(name), value));
        settings.chain(self.variables.iter().map(|(name, value)| ((*name).to_owned(), value)))
    }

    /// The settings as a configuration file.
    pub fn file(&self) -> String {
        // Of the settings that are text, none that a test uses looks like a number.
        let is_bare = |value: &str| value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok();
        let written = |value: &String| if is_bare(value) { value.clone() } else { format!("{value:?}") };
        self.settings.iter().map(|(name, value)| format!("{name} = {}\n", written(value))).collect()
    }

    /// The configuration for a backend, or a part of one, that runs within the test itself.
    ///
    /// # Errors
    /// If a setting is unknown or invalid.
    pub fn config(&self) -> Result<Config> {
        let mut file = tempfile::NamedTempFile::with_suffix(".toml")?;
        file.write_all(self.file().as_bytes())?;
        Ok(Config::load(Some(file.path()))?)
    }
}

/// The environment variable of a setting: `worker.lease_ms` is `BACKEND__WORKER__LEASE_MS`.
fn variable_of(setting: &str) -> String {
    format!("BACKEND__{}", setting.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_becomes_an_environment_variable() {
        assert_eq!(variable_of("partner_api.paging.size"), "BACKEND__PARTNER_API__PAGING__SIZE");
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one_in_the_configuration() {
        let changed = BackendSettings::default().with("worker.window", 7).with("log.level", "warn");
        let config = BackendSettings::usual(0, 0).with("worker.window", 5).with_all(&changed).config().unwrap();
        assert_eq!(config.worker.window, 7);
        assert_eq!(config.ingest.proof.reveal(), PROOF);
    }
}
