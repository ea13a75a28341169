//! `backend doctor`.

use std::io::{Write, stdout};

use anyhow::bail;
use clap::{Args, ValueEnum as _};

use crate::{
    config::Config,
    doctor::{self, Check, Name, SinkTest, Status},
};

/// What to check, and how to show it.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Options {
    /// Print one JSON object per check, with details.
    #[arg(long)]
    json: bool,
    /// Also print details, such as every setting with its value and its origin.
    #[arg(long)]
    details: bool,
    /// Send a signed test request to each URL of the application.
    ///
    /// It has the header `x-truenroll-test: true`, and `"test": true` in its body. The application
    /// should answer 2xx and ignore it.
    #[arg(long)]
    probe_sink: bool,
}

/// Runs all checks and prints them.
///
/// # Errors
/// If a check is a failure.
pub(super) async fn run(config: Config, options: Options) -> anyhow::Result<()> {
    let sink_test = if options.probe_sink { SinkTest::Sent } else { SinkTest::Omitted };
    let checks = doctor::run(config, sink_test).await;
    for check in &checks {
        if options.json {
            writeln!(stdout(), "{}", serde_json::to_string(check)?)?;
        } else {
            writeln!(stdout(), "{}", line(check))?;
            for detail in check.finding.details.iter().filter(|_| options.details) {
                writeln!(stdout(), "         {detail}")?;
            }
        }
    }
    match checks.iter().filter(|check| check.finding.status == Status::Failure).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", checks.len()),
    }
}

/// Returns a check as one line.
fn line(Check { name, finding }: &Check) -> String {
    let width = Name::value_variants().iter().map(|name| name.to_string().len()).max().unwrap_or_default();
    let advice = finding.advice.as_ref().map(|advice| format!(". What to do: {advice}")).unwrap_or_default();
    // An error of another program may have several lines.
    let text = format!("{:<7}  {name:<width$}  {}{advice}", finding.status, finding.found);
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Finding;

    fn check(status: Status, found: &str, advice: Option<&str>) -> Check {
        let finding =
            Finding { status, found: found.to_owned(), advice: advice.map(str::to_owned), details: Vec::new() };
        Check { name: Name::Sink, finding }
    }

    #[test]
    fn a_check_is_one_line_with_what_to_do() {
        for (check, expected) in [
            (check(Status::Pass, "it answers", None), "pass     sink                it answers"),
            (
                check(Status::Failure, "it is\ndown", Some("start it")),
                "failure  sink                it is down. What to do: start it",
            ),
        ] {
            assert_eq!(line(&check), expected);
        }
    }

    #[test]
    fn a_check_is_a_flat_json_object() {
        let json = serde_json::to_string(&check(Status::Warning, "slow", Some("wait"))).unwrap();
        assert_eq!(json, r#"{"name":"sink","status":"warning","found":"slow","advice":"wait"}"#);
    }
}
