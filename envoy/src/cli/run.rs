//! `guardctl run`: what it takes, and the command line that it gives Envoy.

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::rendered;
use crate::{
    bootstrap::Bootstrap,
    drain::{self, Drain},
    unreadable::{Unreadable, ensure_readable},
};

/// How to run Envoy.
#[derive(Args)]
pub(super) struct Run {
    /// How many seconds load balancers have to notice that Envoy is not ready. Until then it
    /// accepts connections.
    #[arg(long, default_value_t = 5)]
    notice_seconds: u64,
    /// The longest time to drain, in seconds. Includes --notice-seconds.
    #[arg(long, default_value_t = 30)]
    drain_seconds: u64,
    /// The URL of Envoy's admin interface.
    #[arg(long, default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// A bootstrap to render with --enable and --set. Envoy gets the result as `--config-yaml`.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// An option of --bootstrap to enable. In the environment variable, several are separated by
    /// white space.
    #[arg(long, value_name = "OPTION", env = "EDGE_ENABLE")]
    enable: Vec<String>,
    /// A value of --bootstrap to replace. In the environment variable, several are separated by
    /// white space.
    #[arg(long = "set", value_name = "NAME=VALUE", env = "EDGE_SET")]
    settings: Vec<String>,
    /// Envoy and its arguments, after `--`. If they have no `--drain-time-s`, guardctl adds it with
    /// the value of --notice-seconds.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Run {
    /// Runs Envoy until it stops, and returns its exit status.
    ///
    /// # Errors
    /// If the bootstrap cannot be rendered or names a file that this process may not read, or Envoy
    /// cannot be started.
    pub(super) fn run(self) -> Result<ExitCode> {
        let notice = Duration::from_secs(self.notice_seconds);
        let limit = Duration::from_secs(self.drain_seconds);
        ensure!(notice < limit, "--drain-seconds must be more than --notice-seconds");
        let program = self.command.first().map(|program| program.display().to_string()).unwrap_or_default();
        let drain = Drain { admin: self.admin.clone(), notice, limit };
        let status = drain::run(&self.command()?, &drain);
        status.map(ExitCode::from).with_context(|| format!("cannot run {program}"))
    }

    /// Returns Envoy's command line, with the rendered bootstrap if there is one.
    fn command(self) -> Result<Vec<OsString>> {
        let (enable, settings) = (words(&self.enable), words(&self.settings));
        let mut command = self.command;
        match self.bootstrap {
            None => ensure!(
                enable.is_empty() && settings.is_empty(),
                "--enable and --set (EDGE_ENABLE and EDGE_SET) change the file given as --bootstrap, and none is given"
            ),
            Some(path) => {
                let text = fs::read_to_string(&path).map_err(|error| Unreadable { path: path.clone(), error })?;
                let rendered = rendered(Bootstrap::from(text), &settings, &enable);
                let rendered = rendered.with_context(|| format!("cannot render {}", path.display()))?;
                ensure_readable(&rendered)?;
                command.push("--config-yaml".into());
                command.push(rendered.into());
            }
        }
        Ok(command)
    }
}

/// Returns the words of all texts. An environment variable is one text, which may be empty.
fn words(texts: &[String]) -> Vec<String> {
    texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::bootstrap::SHIPPED;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn command(arguments: &[&str]) -> Result<Vec<OsString>> {
        let line = ["run"].iter().chain(arguments).chain(&["--", "envoy", "-l", "warning"]);
        Line::try_parse_from(line)?.run.command()
    }

    #[test]
    fn envoy_gets_the_rendered_bootstrap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.yaml");
        fs::write(&path, SHIPPED).unwrap();
        let path = path.to_str().unwrap();
        let before = ["envoy", "-l", "warning"].map(OsString::from);

        assert_eq!(command(&[]).unwrap(), before);
        assert_eq!(command(&["--enable", "", "--set", ""]).unwrap(), before, "empty environment variables");
        let rendered = command(&["--bootstrap", path]).unwrap();
        assert_eq!(rendered[..3], before);
        assert_eq!(rendered[3..], ["--config-yaml", SHIPPED].map(OsString::from));

        for (enable, settings) in [
            ("tls mtls", "edge_port=443 admin_port=1"),
            (" tls\tmtls\r\n", "\n  edge_port=443\n  admin_port=1\n"),
            ("mtls tls mtls tls", "edge_port=1 admin_port=1  edge_port=443"),
        ] {
            let changed = command(&["--bootstrap", path, "--enable", enable, "--set", settings]);
            let changed = changed.unwrap().pop().unwrap().into_string().unwrap();
            for line in [
                "port_value: 443 # set: edge_port",
                "port_value: 1 } # set: admin_port",
                "            exact: webhooks.",
            ] {
                assert!(changed.contains(line), "{enable:?}: {line}");
            }
        }
    }

    #[test]
    fn an_option_that_cannot_take_effect_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.yaml");
        fs::write(&path, SHIPPED).unwrap();
        let path = path.to_str().unwrap();
        for (arguments, part) in [
            (vec!["--enable", "tls"], "none is given"),
            (vec!["--set", "edge_port=443"], "none is given"),
            (vec!["--bootstrap", path, "--enable", "tsl"], "no option `tsl`"),
            (vec!["--bootstrap", path, "--enable", "mtls"], "requires the option `tls`"),
            (vec!["--bootstrap", path, "--set", "edge_port"], "is not NAME=VALUE"),
            (vec!["--bootstrap", "/missing.yaml"], "cannot read /missing.yaml"),
        ] {
            let error = format!("{:#}", command(&arguments).unwrap_err());
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
