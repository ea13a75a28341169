//! Takes over changed settings without a restart. On SIGHUP the configuration is read again and
//! checked as a whole; only then does any of it take effect.

use std::sync::Arc;

use tokio::{signal::unix::Signal, sync::watch};

use crate::{
    config::{Config, ConfigError},
    partner_api::PartnerApi,
    proofs::Proofs,
    sink,
    telemetry::{Metrics, ReloadLabels, SetLevel},
    worker::Work,
};

/// When and how to read the configuration again.
pub struct Reload {
    /// The signals that ask for it.
    pub hangups: Signal,
    /// Reads and checks the configuration.
    pub load: Box<dyn Fn() -> Result<Config, ConfigError> + Send>,
    /// Changes the level of the log.
    pub set_log_level: SetLevel,
}

/// The parts of a running backend that take over settings.
pub(crate) struct Live {
    /// The configuration in effect.
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) proofs: Arc<Proofs>,
    pub(crate) api: PartnerApi,
    pub(crate) work: Arc<Work>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Reload {
    /// Reads the configuration again on each signal. Signals that arrived before count as one.
    pub(crate) async fn run(mut self, live: Live) {
        while self.hangups.recv().await.is_some() {
            let reloaded = self.reload(&live);
            if let Err(error) = &reloaded {
                tracing::error!("the configuration was read again, but no setting was taken over: {error:#}");
            }
            live.metrics.config_last_reload_successful.set(reloaded.is_ok().into());
            let result = if reloaded.is_ok() { "applied" } else { "rejected" };
            live.metrics.config_reloads.get_or_create(&ReloadLabels { result }).inc();
        }
    }

    fn reload(&self, live: &Live) -> anyhow::Result<()> {
        let old = Arc::clone(&live.config.borrow());
        let (config, changes) = old.with_live_settings_of(&(self.load)()?)?;
        // What can fail comes first, so that either everything or nothing is taken over.
        let signing_keys = config.sink.signing_keys()?;
        // Unchanged keys keep their order: the Partner API may have rejected one of them.
        if config.partner_api.api_key != old.partner_api.api_key {
            live.api.change_keys(&config.partner_api.api_key)?;
        }
        live.work.sink().change_keys(signing_keys);
        live.proofs.replace(&config.ingest.proof);
        (self.set_log_level)(config.log.level);
        tracing::info!(changed = changes.live.join(" "), "the configuration was read again");
        if !changes.at_restart.is_empty() {
            let changed = changes.at_restart.join(" ");
            tracing::warn!(changed, "these settings have changed, but take effect only when the backend is restarted");
        }
        if config.sink.secret != old.sink.secret {
            sink::warn_if_unsigned(&config.sink);
        }
        live.config.send_replace(Arc::new(config));
        Ok(())
    }
}
