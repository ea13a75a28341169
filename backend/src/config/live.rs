//! What a running backend takes over from a configuration that was read again.

use super::{Config, ConfigError, Setting};

/// The settings that can change while the backend runs. So can the files of the secrets among them.
/// All others take effect at the next start.
const LIVE: [&str; 5] = ["console.credentials", "ingest.proof", "log.level", "partner_api.api_key", "sink.secret"];

/// The names of the settings that differ between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that can change while the backend runs.
    pub live: Vec<String>,
    /// The others.
    pub at_restart: Vec<String>,
}

impl Config {
    /// Returns this configuration with the live settings of `new`, and what differs between the two.
    ///
    /// # Errors
    /// If the live settings of `new` do not go together with the other settings of this one.
    pub fn with_live_settings_of(&self, new: &Self) -> Result<(Self, Changes), ConfigError> {
        let mut config = self.clone();
        config.console.credentials.clone_from(&new.console.credentials);
        config.ingest.proof.clone_from(&new.ingest.proof);
        config.log.level = new.log.level;
        config.partner_api.api_key.clone_from(&new.partner_api.api_key);
        config.sink.secret.clone_from(&new.sink.secret);
        let mut changes = Changes::default();
        // Both list the same settings in the same order.
        for (setting, new) in config.settings.iter_mut().zip(&new.settings) {
            let has_changed = setting.raw != new.raw;
            if is_live(setting) {
                setting.clone_from(new);
                changes.live.extend(has_changed.then(|| new.key.clone()));
            } else {
                changes.at_restart.extend(has_changed.then(|| new.key.clone()));
            }
        }
        config.check().map_err(|error| error.located(&config.settings))?;
        Ok((config, changes))
    }
}

fn is_live(setting: &Setting) -> bool {
    LIVE.contains(&setting.key.trim_end_matches("_file"))
}
