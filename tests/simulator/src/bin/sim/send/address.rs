//! Where a request goes: what the command line says, else what a running `cargo up` has left.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use envelope::{Policy, SigningKey};
use reqwest::Url;
use simulator::running::{self, Running};

use super::post::Target;

/// Where to send it.
#[derive(Debug, Args)]
pub(super) struct Address {
    /// The webhook's URL without the token; /webhooks/truenroll is added if it has no path
    /// [default: that of a running `cargo up`, else http://127.0.0.1:8080].
    #[arg(long, env = "SIM_URL")]
    url: Option<String>,
    /// The token that follows the webhook's path.
    #[arg(long, env = "SIM_WEBHOOK_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// A file with that token.
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// A secret to sign requests with (`whsec_…`), if the policy requires signatures.
    #[arg(long, env = "SIM_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The simulator that serves the Partner API to the backend. It is told that the stage has
    /// finished before the event is sent, so that the event leads to an outcome [default: that of a
    /// running `cargo up`, unless --url is given].
    #[arg(long, value_name = "URL", env = "SIM_SIMULATOR")]
    simulator: Option<String>,
    /// The API key that the simulator demands.
    #[arg(long, env = "SIM_API_KEY", default_value = simulator::API_KEY, hide_env_values = true)]
    api_key: String,
    /// The folder of a running `cargo up` [default: target/up].
    #[arg(long, value_name = "FOLDER")]
    up: Option<PathBuf>,
}

/// The webhook if none is given and no `cargo up` runs.
const USUAL_URL: &str = "http://127.0.0.1:8080";

impl Address {
    pub(super) fn api_key(&self) -> &str {
        &self.api_key
    }

    /// Returns the webhook, and the URL of the simulator if there is one.
    ///
    /// # Errors
    /// If an argument is invalid, or no `cargo up` runs in the given folder.
    pub(super) fn resolve(&self) -> Result<(Target, Option<String>)> {
        let running = self.running()?;
        let (url, simulator) = match (&self.url, running) {
            (Some(url), _) => (url.clone(), None),
            (None, Some(running)) => (running.webhook, Some(running.simulator)),
            (None, None) => (USUAL_URL.to_owned(), None),
        };
        let token = match &self.token_file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => self.token.clone().unwrap_or_default(),
        };
        let signing_key = self.secret.as_deref().map(SigningKey::parse).transpose();
        // The error must not show the secret.
        let Ok(signing_key) = signing_key else { bail!("--secret must be `whsec_` and 24 to 64 bytes in base64") };
        let target = Target { webhook: webhook(&url)?, token: first_word(&token), signing_key };
        Ok((target, self.simulator.clone().or(simulator)))
    }

    fn running(&self) -> Result<Option<Running>> {
        if self.url.is_some() {
            return Ok(None);
        }
        match &self.up {
            Some(folder) => {
                let running = Running::read(folder);
                Ok(Some(running.with_context(|| format!("no `cargo up` runs with --dir {}", folder.display()))?))
            }
            None => Ok(running::usual_folder().and_then(|folder| Running::read(&folder))),
        }
    }
}

/// Reads the webhook's URL. Adds the documented path if it has none.
fn webhook(url: &str) -> Result<Url> {
    // The URL may contain the token, so no error shows it.
    let mut webhook = Url::parse(url).context("--url is not a URL")?;
    let is_http = matches!(webhook.scheme(), "http" | "https");
    ensure!(is_http && webhook.query().is_none(), "--url must be http(s)://HOST[:PORT][/PATH]");
    if webhook.path() == "/" {
        webhook.set_path(&Policy::default().path);
    }
    Ok(webhook)
}

/// The first of several tokens, as in the variable `WEBHOOK_TOKEN` of guardctl.
fn first_word(tokens: &str) -> Option<String> {
    tokens.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_path_is_added_to_a_url_without_one() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/webhooks/truenroll"),
            ("https://host.example/", "https://host.example/webhooks/truenroll"),
            ("https://host.example/hooks/a", "https://host.example/hooks/a"),
        ] {
            assert_eq!(webhook(url).unwrap().as_str(), expected);
        }
        for url in ["", "host", "ftp://host/", "http://host/?a=b"] {
            assert!(webhook(url).is_err(), "{url}");
        }
    }
}
