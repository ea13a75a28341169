//! Where to publish, and how patiently.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::tell;
use crate::{
    edge::Edge,
    publish::{Backends, Publisher, Unanswered},
    store::Store,
};

/// Where to publish.
#[derive(Args)]
pub(super) struct Target {
    /// The directory that Envoy and guardctl share.
    #[arg(long, default_value = "/var/lib/edge", env = "EDGE_DIR")]
    dir: PathBuf,
    /// Envoy's listener for operators.
    #[arg(long, default_value = "http://127.0.0.1:9902", env = "EDGE_URL")]
    edge: String,
}

/// How to publish.
#[derive(Args)]
pub(super) struct Patience {
    /// How many seconds Envoy may take to serve a build, and a backend until it can be asked for
    /// the proof.
    #[arg(long, default_value_t = 15)]
    patience: u64,
    /// If no Envoy answers, leave the build for Envoy to load when it starts; if no backend
    /// answers, do not insist on asking it. For a start of everything at once, in which Envoy and
    /// the backend come after the filter.
    #[arg(long)]
    stage: bool,
    /// Do not ask the backends whether they know the proof.
    #[arg(long)]
    without_backend: bool,
    /// The Envoy program to rehearse a build with before it is published; where it is `envoy` and
    /// there is none on the PATH, there is no rehearsal.
    #[arg(long, default_value = "envoy")]
    rehearse_with: PathBuf,
    /// How many seconds to watch traffic before a new build is trusted.
    #[arg(long, default_value_t = 5)]
    watch: u64,
    /// By how much the share of 5xx answers, or of rejections among authenticated requests, may
    /// rise meanwhile, 0 to 1; past it the build before is brought back.
    #[arg(long, default_value_t = 0.2)]
    max_rise: f64,
    /// How many publications to keep.
    #[arg(long, default_value_t = 10)]
    keep: usize,
}

impl Target {
    pub(super) fn edge(&self) -> Edge {
        Edge { url: self.edge.clone() }
    }

    pub(super) fn store(&self) -> Result<Store> {
        Store::open(&self.dir).with_context(|| format!("cannot open {}", self.dir.display()))
    }
}

impl Patience {
    pub(super) fn backends(&self) -> Backends {
        if self.without_backend { Backends::Skip } else { Backends::Ask }
    }

    pub(super) fn publisher(&self, target: &Target) -> Result<Publisher> {
        Ok(Publisher {
            store: target.store()?,
            edge: Some(target.edge()),
            unanswered: if self.stage { Unanswered::Stage } else { Unanswered::Fail },
            backends: self.backends(),
            rehearse_with: self.envoy_program()?,
            patience: Duration::from_secs(self.patience),
            watch: Duration::from_secs(self.watch),
            max_rise: self.max_rise,
            keep: self.keep,
        })
    }

    fn envoy_program(&self) -> Result<Option<PathBuf>> {
        let program = &self.rehearse_with;
        if program.components().count() > 1 {
            anyhow::ensure!(
                program.is_file(),
                "there is no Envoy at {}, which --rehearse-with names",
                program.display()
            );
            return Ok(Some(program.clone()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
        if found.is_none() {
            tell(&format!("no {} on the PATH, so the build is not rehearsed", program.display()));
        }
        Ok(found)
    }
}
