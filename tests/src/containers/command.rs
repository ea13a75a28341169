//! Runs a command with a time limit.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

/// How many lines of a failed command's output an error shows.
const LAST_LINES: usize = 40;

/// Runs a command and returns what it wrote to standard output. It gets a process group of its
/// own, so that Ctrl-C reaches only the harness, and is killed when the future is dropped.
///
/// # Errors
/// If it cannot be started, takes longer than `limit`, or fails; with the end of its output.
pub(super) async fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = shown(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    // Boxed, since the future of every step contains it.
    let Ok(output) = timeout(limit, Box::pin(command.output())).await else {
        bail!("`{shown}` took longer than {limit:?}");
    };
    let output = output.with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = last_lines(&format!("{stdout}{stderr}"), LAST_LINES);
        bail!("`{shown}` failed with {}:\n{last}", output.status);
    }
    Ok(stdout)
}

/// The last `count` lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The command as an error shows it.
fn shown(command: &Command) -> String {
    let command = command.as_std();
    let arguments = command.get_args().map(|argument| argument.display().to_string());
    let words: Vec<_> = [command.get_program().display().to_string()].into_iter().chain(arguments).collect();
    words.join(" ")
}
