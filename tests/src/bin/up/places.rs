//! Where everything is: what `cargo up` prints at the start, and the files that it leaves for other
//! commands while it runs.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use harness::{
    backend_settings::SINK_SECRET,
    simulator::{EXAMPLE_CASE, Simulator, running},
    stack::Stack,
    tools,
};
use reqwest::Url;

/// Where everything is.
pub(crate) struct Places<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) simulator: &'a Simulator,
    /// The URL of the developer's own application.
    pub(crate) sink: Option<&'a String>,
}

/// The files that describe what is running. They are deleted when this is dropped.
pub(crate) struct Left(Vec<PathBuf>);

impl Drop for Left {
    fn drop(&mut self) {
        for file in &self.0 {
            _ = fs::remove_file(file);
        }
    }
}

impl Places<'_> {
    /// Every address, in the order in which they are printed. A further listener needs only a
    /// further line.
    fn addresses(&self) -> Vec<(&'static str, String)> {
        let mut addresses = vec![
            ("webhook", self.stack.webhook()),
            ("console", self.stack.console().unwrap_or_default()),
            ("backend", format!("{0}/readyz  {0}/metrics", self.stack.admin())),
            ("Envoy", format!("{}/stats/prometheus", self.stack.envoy_admin_url())),
            ("Redis", without_password(&self.stack.redis_url())),
            ("Partner API", format!("{}/partner/v1", self.simulator.url())),
        ];
        if let Some(sink) = self.sink {
            addresses.push(("application", format!("{sink}  with SINK_SECRET={SINK_SECRET}")));
        }
        addresses.push(("files", format!("{}  logs, data, proof, backend.toml", self.folder())));
        addresses
    }

    /// The environment variables with which the commands use what is running here.
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BACKEND_CONFIG", self.stack.config_file().display().to_string()),
            ("EDGE_DIR", self.stack.folder().join("edge").display().to_string()),
            ("EDGE_URL", self.stack.envoy_admin_url()),
            (running::WEBHOOK, self.stack.webhook()),
            (running::SIMULATOR, self.simulator.url()),
        ]
    }

    /// Leaves the files with which other commands use what is running here.
    pub(crate) fn leave(&self) -> Result<Left> {
        let variables = self.stack.folder().join(running::FILE);
        let left = Left(vec![variables.clone(), self.stack.config_file(), self.stack.proof_file()]);
        self.stack.write_config()?;
        // Nothing needs quotes: Envoy's bootstrap allows no such characters in the folder's name.
        let lines = self.variables().into_iter().map(|(name, value)| format!("{name}={value}\n"));
        let text = format!("# Load with: set -a; . {}; set +a\n{}", variables.display(), lines.collect::<String>());
        fs::write(&variables, text).with_context(|| format!("cannot write {}", variables.display()))?;
        Ok(left)
    }

    /// A command that sends an event.
    pub(crate) fn send_command(&self) -> String {
        let is_usual = self.stack.folder() == tools::target().join("up");
        let up = if is_usual { String::new() } else { format!(" --up {}", self.folder()) };
        format!("cargo sim send extraction.completed --case {EXAMPLE_CASE}{up}")
    }

    fn folder(&self) -> String {
        shown(self.stack.folder())
    }
}

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ntruenroll-edge is running. Ctrl-C stops it.\n")?;
        for (name, address) in self.addresses() {
            writeln!(f, "  {name:<13}{address}")?;
        }
        let folder = self.folder();
        writeln!(f, "\nTry other commands against it, in a shell of its own:\n")?;
        writeln!(f, "  set -a; . {folder}/{}; set +a", running::FILE)?;
        writeln!(f, "  {} dead", shown(&tools::target().join("debug/backend")))?;
        writeln!(f, "  cargo guardctl status")
    }
}

/// A path, relative to the current folder if it is below that.
fn shown(path: &Path) -> String {
    let current = env::current_dir().unwrap_or_default();
    path.strip_prefix(current).unwrap_or(path).display().to_string()
}

/// Hides the password of a URL of Redis.
fn without_password(url: &str) -> String {
    const HIDDEN: &str = "as in REDIS_URL";
    let is_plain = |url: &Url| matches!(url.scheme(), "redis" | "rediss") && url.query().is_none();
    let Some(mut parsed) = Url::parse(url).ok().filter(is_plain) else { return HIDDEN.to_owned() };
    if parsed.password().is_none() {
        return url.to_owned();
    }
    parsed.set_password(Some("***")).map_or_else(|()| HIDDEN.to_owned(), |()| parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_redis_is_not_shown() {
        for (url, expected) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://user:word@host:1/2", "redis://user:***@host:1/2"),
            ("redis://:word@host", "redis://:***@host"),
            ("host:word@", "as in REDIS_URL"),
            ("unix:///socket?pass=word", "as in REDIS_URL"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }
}
