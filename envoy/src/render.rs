//! Renders a build as files for Kustomize, for an Envoy in Kubernetes.
//!
//! ```text
//! filter-<sha256>.wasm  the module, named by its hash
//! filter-<sha256>.json  the resource that Envoy serves, named by its hash
//! kustomization.yaml    makes both files a Secret, which Envoy's containers mount
//! .lock                 held while a build is rendered
//! ```
//!
//! `kustomization.yaml` is replaced last, by renaming. So it always names the module and the
//! resource of one build, even if a render fails or is killed.
//!
//! A kubelet replaces the files of a mounted Secret together: it writes the new ones to a new
//! folder, and then renames the symbolic link `..data` to point to that folder. Envoy watches the
//! directory for renames, and then reads the resource again.
//!
//! Module and resource are in one object, because a kubelet reads two objects at two times. If the
//! resource arrived before its module, Envoy would reject it, and would not read the same resource
//! again when the module arrives. The object is a Secret, because the resource contains the path
//! token and the proof.

use std::{fs, io, path::PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    build::{Build, BuildError, Checked},
    ecds,
    rehearsal::{RehearsalError, rehearse},
    store::hex,
};

mod folder;

use folder::Folder;

/// The name of the Secret, which is stable: if it changed with the content, Kubernetes would
/// replace Envoy's pods to publish a build.
pub const SECRET: &str = "filter";
/// The resource's name in the Secret, and in the directory where Envoy's containers mount it.
pub const RESOURCE: &str = "filter.json";
/// The link that a kubelet replaces to update a mounted Secret.
///
/// The resource names the module by a path through it. The links that lead to the single files are
/// created only after `..data` was replaced, when Envoy may already be reading.
const DATA: &str = "..data";
/// The most that Kubernetes accepts as the content of one Secret, in bytes.
const SECRET_LIMIT: usize = 1 << 20;

/// Where and how to render a build.
#[derive(Debug, Clone)]
pub struct Rendering {
    /// The directory to write to. It is created if necessary. Only its owner can read the files,
    /// because they contain the path token and the proof.
    pub out: PathBuf,
    /// The directory in which Envoy's containers mount the Secret.
    pub mount: PathBuf,
    /// The Envoy program to rehearse the build with, or none to skip the rehearsal.
    pub rehearse_with: Option<PathBuf>,
}

/// Why a build was not rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The build cannot be used.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The build failed its rehearsal.
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    /// The files do not fit into a Secret.
    #[error(
        "the module and its resource have {0} bytes, but a Secret can hold {SECRET_LIMIT}. Build the module with --profile wasm"
    )]
    TooLarge(usize),
    /// A file cannot be written.
    #[error("cannot write to {0} (--out): {1}")]
    Unwritable(PathBuf, io::Error),
    /// The build was rendered, but files of other builds cannot be removed.
    #[error(
        "the build was rendered to {0}, but files of other builds cannot be removed there: {1}. Remove every file \
         filter-* that kustomization.yaml does not name, because it may contain secrets"
    )]
    Leftover(PathBuf, io::Error),
}

impl Rendering {
    /// Writes the files of `build`, and removes those of the build that was rendered before. Returns
    /// the build's name and its resource. The same build is always rendered as the same files.
    ///
    /// # Errors
    /// If the build cannot be used or a file cannot be written. `kustomization.yaml` then names the
    /// build that was rendered before, except after [`RenderError::Leftover`].
    pub fn render(&self, build: &Build) -> Result<(String, Value), RenderError> {
        let Checked { name, sha256, settings } = build.check()?;
        let module = format!("filter-{sha256}.wasm");
        let response = ecds::response(&name, &self.mount.join(DATA).join(&module), &settings);
        let content = format!("{response:#}\n");
        let size = build.module.len() + content.len();
        if size > SECRET_LIMIT {
            return Err(RenderError::TooLarge(size));
        }
        let resource = format!("filter-{}.json", hex(&Sha256::digest(&content)));
        let unwritable = |error| RenderError::Unwritable(self.out.clone(), error);
        let folder = Folder::lock(&self.out).map_err(unwritable)?;
        folder.replace(&module, &build.module).map_err(unwritable)?;
        if let Some(envoy) = &self.rehearse_with {
            let out = fs::canonicalize(&self.out).map_err(unwritable)?;
            rehearse(envoy, &ecds::response(&name, &out.join(&module), &settings))?;
        }
        folder.replace(&resource, content.as_bytes()).map_err(unwritable)?;
        folder.replace("kustomization.yaml", kustomization(&module, &resource).as_bytes()).map_err(unwritable)?;
        let removed = folder.remove_all_but([&module, &resource]);
        removed.map_err(|error| RenderError::Leftover(self.out.clone(), error))?;
        Ok((name, response))
    }
}

fn kustomization(module: &str, resource: &str) -> String {
    format!(
        "# Written by `guardctl render`. Contains secrets: the path token and the proof.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         secretGenerator:\n\
         - name: {SECRET}\n  \
           # A new name for each build would replace Envoy's pods.\n  \
           options: {{ disableNameSuffixHash: true }}\n  \
           files:\n  \
           - {RESOURCE}={resource}\n  \
           - {module}\n"
    )
}

#[cfg(test)]
mod tests;
