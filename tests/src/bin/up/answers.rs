//! What the developer's own application answered, read from the backend's log.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// Which application receives the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    /// The simulator's, which checks each outcome.
    Simulated,
    /// The developer's own.
    Own,
}

/// Follows the backend's log.
pub(crate) struct Answers {
    log: Option<BufReader<File>>,
    /// The beginning of a line that is not complete yet.
    line: String,
}

/// The most answers that are shown each second.
const MOST_LINES: usize = 20;

impl Application {
    /// How long the delivery of accepted events may take after the last one was sent.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Simulated => Duration::from_secs(30),
            // It may be one that never answers 2xx.
            Self::Own => Duration::from_secs(5),
        }
    }
}

impl Answers {
    /// Begins to follow a log. The answers of the simulated application are not shown.
    pub(crate) fn follow(log: &Path, application: Application) -> Result<Self> {
        let log = match application {
            Application::Simulated => None,
            Application::Own => Some(File::open(log).with_context(|| format!("cannot read {}", log.display()))?),
        };
        Ok(Self { log: log.map(BufReader::new), line: String::new() })
    }

    /// Returns a line for each answer since the last call. If there are too many, the last line
    /// states how many are omitted.
    pub(crate) fn since_last(&mut self) -> Result<Vec<String>> {
        let Some(log) = &mut self.log else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        let mut omitted = 0_usize;
        while log.read_line(&mut self.line)? > 0 && self.line.ends_with('\n') {
            match describe(&self.line) {
                Some(line) if lines.len() < MOST_LINES => lines.push(line),
                Some(_) => omitted += 1,
                None => {}
            }
            self.line.clear();
        }
        if omitted > 0 {
            lines.push(format!("… and {omitted} more; backend.log has all of them"));
        }
        Ok(lines)
    }
}

/// Describes a line of the log if it says what became of a delivery.
fn describe(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let key = line["span"]["event_key"].as_str()?;
    let code = line["code"].as_str();
    let happened = match line["message"].as_str()? {
        "the application answered" => line["status"].to_string(),
        "the application did not answer" => format!("no answer, {}", code?),
        message if message.starts_with("dead letter: ") => return Some(format!("dead letter, {}  {key}", code?)),
        _ => return None,
    };
    Some(format!("{happened} after {} ms  {key}", line["took_ms"]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(fields: &str, message: &str) -> String {
        format!(r#"{{"level":"DEBUG",{fields}"message":"{message}","span":{{"event_key":"key","name":"event"}}}}"#)
    }

    #[test]
    fn only_lines_about_deliveries_are_described() {
        for (line, expected) in [
            (line(r#""status":204,"took_ms":3,"#, "the application answered"), Some("204 after 3 ms  key")),
            (
                line(r#""code":"sink_timeout","took_ms":3,"#, "the application did not answer"),
                Some("no answer, sink_timeout after 3 ms  key"),
            ),
            (
                line(r#""code":"api_case_not_found","#, "dead letter: no case"),
                Some("dead letter, api_case_not_found  key"),
            ),
            (line(r#""code":"sink_rejected","#, "attempt failed, waiting for retry: 500"), None),
            (r#"{"message":"the application answered"}"#.to_owned(), None),
            ("no JSON".to_owned(), None),
        ] {
            assert_eq!(describe(&line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_log_is_followed_line_by_line_and_long_news_are_cut() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut answers = Answers::follow(log.path(), Application::Own).unwrap();
        let line = line(r#""status":204,"took_ms":3,"#, "the application answered");
        let (first, rest) = line.split_at(20);
        write!(log, "{first}").unwrap();
        assert_eq!(answers.since_last().unwrap(), [""; 0]);
        writeln!(log, "{rest}").unwrap();
        assert_eq!(answers.since_last().unwrap(), ["204 after 3 ms  key"]);
        for _ in 0..MOST_LINES + 2 {
            writeln!(log, "{line}").unwrap();
        }
        let news = answers.since_last().unwrap();
        assert_eq!((news.len(), news.last().unwrap().contains("and 2 more")), (MOST_LINES + 1, true));
        let mut none = Answers::follow(Path::new("missing"), Application::Simulated).unwrap();
        assert_eq!(none.since_last().unwrap(), [""; 0]);
    }
}
