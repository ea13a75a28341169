//! The progress of a run.

use std::{fmt::Display, time::Instant};

use anyhow::{Context, Result};

use crate::tools::say;

/// The steps of a run, each with the time that it took.
#[derive(Debug)]
pub struct Steps {
    began: Instant,
    done: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self { began: Instant::now(), done: 0 }
    }
}

impl Steps {
    /// Performs one step and prints a line with its time and its result.
    ///
    /// # Errors
    /// If the step fails; the error names the step.
    pub async fn step<T: Display>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        say(&format!("{:>5} s  {name} …", self.began.elapsed().as_secs()));
        let result = Box::pin(work).await.with_context(|| format!("step failed: {name}"))?;
        self.done += 1;
        say(&format!("         {name}: {:.1} s{}", began.elapsed().as_secs_f64(), detail(&result)));
        Ok(result)
    }

    /// The number of steps so far and the seconds that all took.
    pub fn summary(&self) -> String {
        format!("{} steps in {} s", self.done, self.began.elapsed().as_secs())
    }
}

fn detail(result: &impl Display) -> String {
    let detail = result.to_string();
    if detail.is_empty() { detail } else { format!("; {detail}") }
}
