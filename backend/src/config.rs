//! The configuration: compiled-in defaults, overridden by a file, overridden by the environment. It
//! is read at start, and again when it is to be reloaded, and checked as a whole.

use std::{env, ffi::OsString, fs, path::Path};

use config::{Environment, File, FileFormat, Source as _};
use serde::Deserialize;

use crate::unreadable::explain;

mod check;
mod credential;
mod error;
mod listing;
mod live;
mod old_names;
mod secret;
mod settings;
mod text;

pub use credential::{Credential, Role};
pub use error::ConfigError;
pub use listing::{Origin, Setting};
pub use secret::Secret;
pub use settings::{
    Admin, Console, Doctor, Durability, Handler, History, Ingest, Log, LogFormat, LogLevel, Paging, PartnerApi,
    Reconciler, Redis, Shutdown, Sink, SinkKind, Telemetry, Topology, Worker,
};

const DEFAULTS: &str = include_str!("../config.default.toml");

/// What the names of the backend's environment variables begin with.
const ENVIRONMENT_PREFIX: &str = "BACKEND";

/// The variables of OpenTelemetry that are read, each with the setting whose default it replaces.
/// If several replace the same default, the last one that is set wins.
const STANDARD_VARIABLES: [(&str, &str); 5] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR),
    (TRACES_ENDPOINT, COLLECTOR),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", TIMEOUT),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];
/// The variable with the whole URL for traces, to which no path is added.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const COLLECTOR: &str = "telemetry.otlp_endpoint";
const TIMEOUT: &str = "telemetry.otlp_timeout_ms";

/// All settings. `config.default.toml` documents each of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "`config.default.toml` documents each setting")]
pub struct Config {
    pub ingest: Ingest,
    pub admin: Admin,
    pub console: Console,
    pub redis: Redis,
    pub history: History,
    pub worker: Worker,
    pub handler: Handler,
    pub partner_api: PartnerApi,
    pub reconciler: Reconciler,
    pub sink: Sink,
    pub doctor: Doctor,
    pub log: Log,
    pub telemetry: Telemetry,
    pub shutdown: Shutdown,
    /// The same, setting by setting, sorted by name.
    #[serde(skip)]
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads the defaults, `file` if there is one, and the environment, and checks the result.
    ///
    /// # Errors
    /// Returns an error for the first setting that is unknown, missing, renamed, of the wrong type
    /// or out of range.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(file, environment(), env::vars_os())
    }

    /// Like [`Config::load`], with the environment to read and all of its variables.
    fn from_sources(
        file: Option<&Path>,
        environment: Environment,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let variables: Vec<_> = variables.collect();
        let (sources, has_own_endpoint) = Self::read_sources(file, environment, &variables)?;
        let settings = listing::settings_of(sources.collect()?, file);
        let mut config = Self { settings, ..sources.try_deserialize()? };
        config.telemetry.is_whole_url = !has_own_endpoint && value_of(&variables, TRACES_ENDPOINT).is_some();
        config.read_secrets().map_err(|error| error.located(&config.settings))?;
        config.check().map_err(|error| error.located(&config.settings))?;
        Ok(config)
    }

    /// Reads all sources, of which later ones override earlier ones. Returns also whether the file or
    /// a variable of the backend sets the collector.
    fn read_sources(
        file: Option<&Path>,
        environment: Environment,
        variables: &[(OsString, OsString)],
    ) -> Result<(config::Config, bool), ConfigError> {
        old_names::ensure_no_old_variable(variables.iter().map(|(name, _)| name))?;
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let mut own = config::Config::builder();
        if let Some(file) = file {
            let file = File::from(file).format(FileFormat::Toml);
            text::ensure_quoted(&defaults.collect()?, &file.collect()?)?;
            own = own.add_source(file);
        }
        // The source does not guess types: text stays as it is written, and only settings that are
        // numbers are parsed.
        let environment = environment.prefix_separator("__").separator("__");
        let own = own.add_source(environment).build()?;
        let has_own_endpoint = own.get_string(COLLECTOR).is_ok();
        let all = config::Config::builder().add_source(defaults).add_source(standard(variables)).add_source(own);
        let sources = all.build()?;
        old_names::ensure_no_old_setting(&sources)?;
        Ok((sources, has_own_endpoint))
    }

    /// Replaces each secret for which a file is configured.
    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        for (key, file, secret) in [
            ("ingest.proof_file", &self.ingest.proof_file, &mut self.ingest.proof),
            ("console.credentials_file", &self.console.credentials_file, &mut self.console.credentials),
            ("redis.url_file", &self.redis.url_file, &mut self.redis.url),
            ("redis.sentinel_password_file", &self.redis.sentinel_password_file, &mut self.redis.sentinel_password),
            ("partner_api.api_key_file", &self.partner_api.api_key_file, &mut self.partner_api.api_key),
            ("sink.secret_file", &self.sink.secret_file, &mut self.sink.secret),
            ("sink.redis_url_file", &self.sink.redis_url_file, &mut self.sink.redis_url),
        ] {
            if file.is_empty() {
                continue;
            }
            let invalid = |problem: &str| ConfigError::invalid(key, format!("is `{file}`, which {problem}"));
            let text = fs::read_to_string(file);
            let text = text.map_err(|error| invalid(&format!("cannot be read: {}", explain(&error))))?;
            *secret = Secret::new(text.trim_end());
            // Without the secret, outcomes would not be signed, or the console would be open.
            if secret.reveal().is_empty() {
                return Err(invalid("is empty"));
            }
            if let Some(setting) =
                self.settings.iter_mut().find(|setting| key.strip_suffix("_file") == Some(&setting.key))
            {
                setting.raw.clone_from(secret);
            }
        }
        Ok(())
    }
}

/// Returns the source that reads [`STANDARD_VARIABLES`]. Those of the collector are ignored if another
/// one says that nothing is to be exported, and so is a timeout that is not a number in range, as the
/// specification of OpenTelemetry demands: the variable may be meant for other programs.
fn standard(variables: &[(OsString, OsString)]) -> Environment {
    let is_disabled = value_of(variables, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let is_off = is_disabled || value_of(variables, "OTEL_TRACES_EXPORTER") == Some("none");
    let is_read = |setting: &str, value: &str| match setting {
        COLLECTOR => !is_off,
        TIMEOUT => value.parse().is_ok_and(|milliseconds| (1..=check::LONGEST_CALL_MS).contains(&milliseconds)),
        _ => true,
    };
    let setting = |(name, setting): &(&str, &str)| {
        let value = value_of(variables, name).filter(|value| is_read(setting, value))?;
        Some(((*setting).to_owned(), value.to_owned()))
    };
    Environment::default().source(Some(STANDARD_VARIABLES.iter().filter_map(setting).collect()))
}

/// Returns the value of a variable. To OpenTelemetry, an empty one is not set.
fn value_of<'a>(variables: &'a [(OsString, OsString)], name: &str) -> Option<&'a str> {
    let (_, value) = variables.iter().find(|(variable, _)| variable == name)?;
    value.to_str().filter(|value| !value.is_empty())
}

/// Returns the source that reads the environment of this process.
fn environment() -> Environment {
    Environment::with_prefix(ENVIRONMENT_PREFIX)
}

#[cfg(test)]
mod tests;
