//! Holds what the application receives against its description, `docs/outcomes.openapi.yaml`.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use simulator::application::Application;

use crate::tools;

/// The script that validates, with the reference implementation of JSON Schema for Python.
const VALIDATE: &str = include_str!("outcomes/validate.py");

/// The description, and a process that validates against it. The process ends when this is dropped,
/// since its input then ends.
pub struct Contract {
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Contract {
    /// Starts the process.
    ///
    /// # Errors
    /// If Python or its packages are missing.
    pub fn start() -> Result<Self> {
        let mut python = tools::python()?;
        let mut child = python
            .args(["-c", VALIDATE])
            .arg(Self::file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("python3 has no pipes")?;
        Ok(Self { pipes: Mutex::new((pipes.0, BufReader::new(pipes.1))) })
    }

    /// Makes the application reject what is not as described.
    ///
    /// # Errors
    /// If Python or its packages are missing.
    pub fn hold(application: &Application) -> Result<()> {
        let contract = Self::start()?;
        let check = move |headers: &_, body: &_| contract.check(headers, body).map_err(|error| error.to_string());
        application.hold_against(Box::new(check));
        Ok(())
    }

    /// The path of the description.
    pub fn file() -> PathBuf {
        tools::workspace().join("docs/outcomes.openapi.yaml")
    }

    /// Validates the headers and the body of a delivery.
    ///
    /// # Errors
    /// If they are not as described; with the path of the violation.
    pub fn check(&self, headers: &HeaderMap, body: &Value) -> Result<()> {
        let headers: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect();
        let delivery = json!({ "headers": headers, "body": body });
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.0, "{delivery}")?;
        let mut violation = String::new();
        if pipes.1.read_line(&mut violation)? == 0 {
            bail!("the process that validates has ended: its error is above");
        }
        if violation.trim().is_empty() {
            Ok(())
        } else {
            bail!("not as docs/outcomes.openapi.yaml says: {}", violation.trim())
        }
    }
}
