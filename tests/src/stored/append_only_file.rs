//! The append-only file of a recorded store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

/// The annotation with which Redis records when it wrote the file, in seconds since 1970.
const WRITTEN_AT: &str = "#TS:";

/// Returns the recording as it would be if it had been made at `now`: each key expires as long
/// after `now` as it expired after the recording. Nothing else changes.
///
/// # Errors
/// If the recording is not an append-only file in plain text that says when it was written.
pub fn at(recording: &str, now: SystemTime) -> Result<String> {
    let (first, mut rest) = recording.split_once("\r\n").context("the recording is empty")?;
    let written_at = first.strip_prefix(WRITTEN_AT).context("the recording does not say when it was written")?;
    let written_at = UNIX_EPOCH + Duration::from_secs(written_at.parse()?);
    let later = now.duration_since(written_at)?.as_millis();
    let mut moved = String::with_capacity(recording.len());
    while !rest.is_empty() {
        let mut command = read_command(&mut rest)?;
        if let Some(expiry) = expiry_of(&mut command) {
            *expiry = (expiry.parse::<u128>()? + later).to_string();
        }
        moved += &format!("*{}\r\n", command.len());
        for word in command {
            moved += &format!("${}\r\n{word}\r\n", word.len());
        }
    }
    Ok(moved)
}

/// The time at which a command lets its key expire.
fn expiry_of(command: &mut [String]) -> Option<&mut String> {
    let place = match command[0].as_str() {
        "PEXPIREAT" => 2,
        "SET" => command.iter().skip(3).position(|word| word == "PXAT")? + 4,
        _ => return None,
    };
    command.get_mut(place)
}

/// Reads a command: `*<words>`, and for each word `$<length>` and the word itself.
fn read_command(rest: &mut &str) -> Result<Vec<String>> {
    let words = read_number(rest, "*")?;
    ensure!(words > 0, "the recording has an empty command");
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let length = read_number(rest, "$")?;
        let word = rest.get(..length).context("the recording ends within a word")?;
        command.push(word.to_owned());
        *rest = rest[length..].strip_prefix("\r\n").context("a word of the recording is longer than stated")?;
    }
    Ok(command)
}

fn read_number(rest: &mut &str, sign: &str) -> Result<usize> {
    let (line, after) = rest.split_once("\r\n").context("the recording ends within a command")?;
    *rest = after;
    Ok(line.strip_prefix(sign).with_context(|| format!("expected {sign}, found {line}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes commands, each given as its words.
    fn written(commands: &[&[&str]]) -> String {
        let write = |command: &&[&str]| {
            let words = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
            format!("*{}\r\n{}", command.len(), words.collect::<String>())
        };
        commands.iter().map(write).collect()
    }

    #[test]
    fn each_expiry_moves_and_nothing_else() {
        let recording = "#TS:1000\r\n".to_owned()
            + &written(&[
                &["SELECT", "0"],
                &["SET", "PXAT", "1000", "PXAT", "1000500"],
                &["SET", "plain", "PEXPIREAT"],
                &["HSET", "case", "extraction", "1000"],
                &["PEXPIREAT", "case", "1002000"],
                &["XADD", "stream", "1000-0", "body", "{\r\n\"é\"}"],
            ]);
        let moved = at(&recording, UNIX_EPOCH + Duration::from_secs(3_000)).unwrap();
        let expected = written(&[
            &["SELECT", "0"],
            &["SET", "PXAT", "1000", "PXAT", "3000500"],
            &["SET", "plain", "PEXPIREAT"],
            &["HSET", "case", "extraction", "1000"],
            &["PEXPIREAT", "case", "3002000"],
            &["XADD", "stream", "1000-0", "body", "{\r\n\"é\"}"],
        ]);
        assert_eq!(moved, expected);
    }

    #[test]
    fn what_is_not_a_recording_is_an_error() {
        for recording in ["", "*1\r\n$1\r\na\r\n", "#TS:1\r\n*1\r\n$9\r\na\r\n", "#TS:1\r\n*0\r\n", "#TS:x\r\n"] {
            assert!(at(recording, UNIX_EPOCH + Duration::from_secs(2)).is_err(), "{recording:?}");
        }
    }
}
