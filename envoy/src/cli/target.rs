//! Arguments that several commands share: where to publish, and how.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use super::build::RehearsalArguments;
use crate::{
    edge::Edge,
    publish::{Backends, Publisher, Unanswered},
    store::Store,
};

/// The Envoy to publish to.
#[derive(Args)]
pub(super) struct Target {
    /// The directory that Envoy and guardctl share.
    #[arg(long, default_value = "/var/lib/edge", env = "EDGE_DIR")]
    dir: PathBuf,
    /// The URL of Envoy's operators' listener.
    #[arg(long, default_value = "http://127.0.0.1:9902", env = "EDGE_URL")]
    edge: String,
}

/// How to publish.
#[derive(Args)]
pub(super) struct Patience {
    /// How many seconds to wait until Envoy serves the build, and until a backend answers whether
    /// it knows the proof.
    #[arg(long, default_value_t = 15)]
    patience: u64,
    /// If no Envoy answers, leave the build for Envoy to load when it starts; if no backend
    /// answers, go on without its answer. For starting everything at once, when Envoy and the
    /// backend start after the publication. If the build replaces another one, guardctl first waits
    /// up to 10 seconds for Envoy, which may be restarting.
    #[arg(long)]
    stage: bool,
    /// Do not ask the backends whether they know the proof.
    #[arg(long)]
    without_backend: bool,
    #[command(flatten)]
    rehearsal: RehearsalArguments,
    /// How many seconds to watch traffic before the build is kept.
    #[arg(long, default_value_t = 5)]
    watch: u64,
    /// How much the share of 5xx answers, or of rejected authenticated requests, may rise during
    /// --watch, 0 to 1. If it rises further, guardctl rolls back.
    #[arg(long, default_value_t = 0.2)]
    max_rise: f64,
    /// How many publications to keep for rollbacks.
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
            rehearse_with: self.rehearsal.program()?,
            patience: Duration::from_secs(self.patience),
            watch: Duration::from_secs(self.watch),
            max_rise: self.max_rise,
            keep: self.keep,
        })
    }
}
