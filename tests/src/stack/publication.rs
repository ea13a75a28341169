//! Builds of the filter, and their publication to a stack's Envoy.

use std::{fs, time::Duration};

use anyhow::Result;
use envoy::{
    build::Build,
    edge::Edge,
    publish::{Backends, Publisher, Unanswered},
    store::Store,
};
use serde_json::Value;

use super::{PATIENCE, PROOF, Stack};
use crate::tools;

impl Stack {
    /// A publisher of filter builds to this stack's Envoy.
    ///
    /// # Errors
    /// If the directory that is shared with Envoy cannot be opened.
    pub fn publisher(&self) -> Result<Publisher> {
        let edge = Edge { url: self.envoy_admin_url() };
        let store = Store::open(&self.folder.join("edge"))?;
        Ok(publisher(store, Some(edge)))
    }

    /// A build of the filter with this policy.
    ///
    /// # Errors
    /// If the filter does not compile.
    pub fn build(&self, policy: Value) -> Result<Build> {
        Ok(Build { module: fs::read(tools::wasm_filter()?)?, policy, proof: PROOF.into() })
    }
}

/// A publisher that neither rehearses a build nor watches traffic after the swap. Tests of these
/// switch them on.
pub(super) fn publisher(store: Store, edge: Option<Edge>) -> Publisher {
    Publisher {
        store,
        edge,
        unanswered: Unanswered::Fail,
        backends: Backends::Ask,
        rehearse_with: None,
        patience: PATIENCE,
        watch: Duration::ZERO,
        max_rise: 0.2,
        keep: 10,
    }
}
