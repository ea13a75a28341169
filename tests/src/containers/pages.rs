//! The commands that the documents show.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

use crate::tools;

/// A fenced block of shell commands in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading under which it stands, without the number signs.
    pub section: String,
    /// The commands.
    pub text: String,
}

/// The commands that a run has performed.
#[derive(Debug, Clone, Default)]
pub struct Performed(Arc<Mutex<Vec<String>>>);

impl Performed {
    /// Notes the commands of a block.
    pub(super) fn note(&self, block: &str) {
        let commands = block.lines().map(str::trim).filter(|line| line.starts_with("docker "));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(commands.map(str::to_owned));
    }

    /// Checks that every command of these pages that runs `docker` was performed, exactly as it is
    /// shown.
    ///
    /// # Errors
    /// If one was not; the error lists them.
    pub fn covers(&self, pages: &[&str]) -> Result<()> {
        let performed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = Vec::new();
        for page in pages {
            let commands = docker_commands(page)?.into_iter();
            let is_new = |shown: &String| !performed.contains(shown);
            left_out.extend(commands.filter(is_new).map(|command| format!("{page}: {command}")));
        }
        ensure!(left_out.is_empty(), "no step performed these commands; add a step for each: {left_out:#?}");
        Ok(())
    }
}

/// Checks that a page shows a command, so that a test fails when the page changes.
///
/// # Errors
/// If the page does not show it.
pub fn shows(page: &str, command: &str) -> Result<()> {
    let commands = docker_commands(page)?;
    ensure!(commands.iter().any(|shown| shown == command), "{page} does not show `{command}`, but: {commands:#?}");
    Ok(())
}

/// Returns the blocks marked `sh` of a page, in order.
///
/// # Errors
/// If the page cannot be read.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let text = fs::read_to_string(tools::workspace().join(page)).with_context(|| page.to_owned())?;
    Ok(extract(&text))
}

/// Returns every command of a page that runs `docker`, whether in a block or within a sentence or a
/// table, in order. Line breaks within a command become spaces.
///
/// # Errors
/// If the page cannot be read.
pub fn docker_commands(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(tools::workspace().join(page)).with_context(|| page.to_owned())?;
    Ok(commands(&text))
}

fn extract(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            section = line.trim_start_matches('#').trim().to_owned();
        } else if let Some(language) = line.trim_start().strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let body = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```"));
            let text: Vec<_> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
            if language == "sh" {
                blocks.push(Block { section: section.clone(), text: text.join("\n") });
            }
        }
    }
    blocks
}

fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in extract(page) {
        found.extend(block.text.lines().map(str::trim).filter(|line| line.starts_with("docker ")).map(str::to_owned));
    }
    let mut prose = String::new();
    let mut is_prose = true;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_prose = !is_prose;
        } else if is_prose {
            prose.push_str(line.trim());
            prose.push(' ');
        }
    }
    // `docker compose` alone names the program.
    let is_command = |code: &&str| code.starts_with("docker ") && code.split_whitespace().count() > 2;
    let inline = prose.split('`').skip(1).step_by(2).filter(is_command);
    found.extend(inline.map(str::to_owned));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# A page

With `docker compose`, run `docker compose up` or `cargo up`, or `docker compose
down`.

```sh
cargo test
docker compose ps
```

## Steps

1. Do this:

   ```sh
   docker compose logs
     indented
   ```

```yaml
docker: no command
```
";

    #[test]
    fn blocks_have_their_section_and_no_indentation() {
        let block = |section: &str, text: &str| Block { section: section.to_owned(), text: text.to_owned() };
        let expected =
            [block("A page", "cargo test\ndocker compose ps"), block("Steps", "docker compose logs\n  indented")];
        assert_eq!(extract(PAGE), expected);
    }

    #[test]
    fn a_command_that_was_not_performed_is_noticed() {
        let performed = Performed::default();
        performed.note("docker compose --env-file demo.env --profile demo up --build\nls");
        assert!(performed.covers(&["README.md"]).is_err());
        for command in docker_commands("README.md").unwrap() {
            performed.note(&format!("{command} --more"));
        }
        assert!(performed.covers(&["README.md"]).is_err(), "other commands that begin in the same way");
        for command in docker_commands("README.md").unwrap() {
            performed.note(&command);
        }
        performed.covers(&["README.md"]).unwrap();
    }

    #[test]
    fn commands_are_found_in_blocks_and_in_sentences() {
        let expected = ["docker compose ps", "docker compose logs", "docker compose up", "docker compose down"];
        assert_eq!(commands(PAGE), expected);
    }
}
