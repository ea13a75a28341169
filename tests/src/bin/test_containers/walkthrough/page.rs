//! The commands of the section, in their order.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use harness::containers::pages::{self, Block};

pub(super) const PAGE: &str = "docs/OPERATIONS.md";
const FIRST: &str = "First settings";
const LAST: &str = "Your own handler";

/// The blocks of commands that were not performed yet.
pub(super) struct Page(VecDeque<Block>);

impl Page {
    pub(super) fn read() -> Result<Self> {
        let mut blocks = pages::blocks(PAGE)?;
        let end = blocks.iter().rposition(|block| block.section == LAST).context(LAST)?;
        blocks.truncate(end + 1);
        Ok(Self(blocks.into_iter().skip_while(|block| block.section != FIRST).collect()))
    }

    /// The next block. It must stand under this heading.
    pub(super) fn next(&mut self, heading: &str) -> Result<String> {
        let block = self.0.pop_front().with_context(|| format!("{PAGE} shows no commands for {heading:?}"))?;
        let section = block.section;
        ensure!(section == heading, "{PAGE} shows commands for {section:?}, where the test expects {heading:?}");
        Ok(block.text)
    }

    /// Checks that no block is left.
    pub(super) fn ends(&self) -> Result<()> {
        ensure!(self.0.is_empty(), "no step performs these commands: {:#?}", self.0);
        Ok(())
    }
}
