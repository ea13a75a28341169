//! Renders a build as files for Kustomize, for an Envoy in Kubernetes.
//!
//! ```text
//! filter.json           the resource that Envoy serves
//! filter-<sha256>.wasm  the module, named by its hash
//! kustomization.yaml    makes both files a Secret, which Envoy's containers mount
//! ```
//!
//! A kubelet replaces the files of a mounted Secret together: it writes the new ones to a new
//! folder, and then renames the symbolic link `..data` to point to that folder. Envoy watches the
//! directory for renames, and then reads the resource again.
//!
//! Module and resource are in one object, because a kubelet reads two objects at two times. If the
//! resource arrived before its module, Envoy would reject it, and would not read the same resource
//! again when the module arrives. The object is a Secret, because the resource contains the path
//! token and the proof.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    build::{Build, BuildError, Checked},
    ecds,
    rehearsal::{RehearsalError, rehearse},
    store::replace_durably,
};

/// The name of the Secret, which is stable: if it changed with the content, Kubernetes would
/// replace Envoy's pods to publish a build.
pub const SECRET: &str = "filter";
/// The name of the resource's file.
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
    /// The directory to write to. It is created if necessary.
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
}

impl Rendering {
    /// Writes the files of `build`, and removes the module that was rendered before. Returns the
    /// build's name and its resource. The same build is always rendered as the same files.
    ///
    /// # Errors
    /// If the build cannot be used or the files cannot be written. Unless the last file could not
    /// be written, the directory still holds the build that was rendered before.
    pub fn render(&self, build: &Build) -> Result<(String, Value), RenderError> {
        let Checked { name, sha256, settings } = build.check()?;
        let module = format!("filter-{sha256}.wasm");
        let response = ecds::response(&name, &self.mount.join(DATA).join(&module), &settings);
        let resource = format!("{response:#}\n");
        let size = build.module.len() + resource.len();
        if size > SECRET_LIMIT {
            return Err(RenderError::TooLarge(size));
        }
        self.write(&module, &build.module)?;
        if let Some(envoy) = &self.rehearse_with {
            let out = fs::canonicalize(&self.out).map_err(|error| self.unwritable(error))?;
            rehearse(envoy, &ecds::response(&name, &out.join(&module), &settings))?;
        }
        self.write(RESOURCE, resource.as_bytes())?;
        self.write("kustomization.yaml", kustomization(&module).as_bytes())?;
        self.remove_other_modules(&module).map_err(|error| self.unwritable(error))?;
        Ok((name, response))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), RenderError> {
        // In the same directory, which may be a mount of its own.
        let unfinished = self.out.join(".unfinished");
        let replace = |()| replace_durably(&self.out.join(name), &unfinished, content);
        let written = fs::create_dir_all(&self.out).and_then(replace);
        written.map_err(|error| self.unwritable(error))
    }

    fn remove_other_modules(&self, module: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.out)? {
            let path = entry?.path();
            if is_module(&path) && path.file_name().is_some_and(|name| name != module) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn unwritable(&self, error: io::Error) -> RenderError {
        RenderError::Unwritable(self.out.clone(), error)
    }
}

fn is_module(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with("filter-") && name.ends_with(".wasm"))
}

fn kustomization(module: &str) -> String {
    format!(
        "# Written by `guardctl render`. Contains secrets: the path token and the proof.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         secretGenerator:\n\
         - name: {SECRET}\n  \
           # A new name for each build would replace Envoy's pods.\n  \
           options: {{ disableNameSuffixHash: true }}\n  \
           files:\n  \
           - {RESOURCE}\n  \
           - {module}\n"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn build(module: &[u8]) -> Build {
        Build { module: [b"\0asm", module].concat(), policy: json!({}), proof: "0123456789abcdef".to_owned() }
    }

    fn rendering(out: &Path) -> Rendering {
        Rendering { out: out.join("new/filter"), mount: PathBuf::from("/mount"), rehearse_with: None }
    }

    /// The names and contents of the files that were rendered.
    fn files(rendering: &Rendering) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&rendering.out)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_resource_names_the_module_through_the_link_that_a_kubelet_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let rendering = rendering(folder.path());
        let (name, response) = rendering.render(&build(b"1")).unwrap();
        let [(module, content), (resource, json), (_, kustomization)] = &files(&rendering)[..] else { panic!() };
        assert_eq!((resource.as_str(), content.as_slice()), (RESOURCE, b"\0asm1".as_slice()));
        assert_eq!(serde_json::from_slice::<Value>(json).unwrap(), response);
        assert_eq!(ecds::settings(&response).unwrap().build, name);
        let named = response.pointer("/resources/0/typed_config/config/vm_config/code/local/filename").unwrap();
        assert_eq!(named, &json!(format!("/mount/..data/{module}")));
        let kustomization = String::from_utf8_lossy(kustomization);
        assert!(kustomization.contains(&format!("  files:\n  - filter.json\n  - {module}\n")), "{kustomization}");
    }

    #[test]
    fn a_build_replaces_the_one_before_and_is_always_rendered_as_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let rendering = rendering(folder.path());
        rendering.render(&build(b"1")).unwrap();
        let first = files(&rendering);
        rendering.render(&build(b"2")).unwrap();
        assert!(files(&rendering).len() == 3 && files(&rendering) != first);
        rendering.render(&build(b"1")).unwrap();
        assert_eq!(files(&rendering), first);
    }

    #[test]
    fn a_build_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let rendering = rendering(folder.path());
        rendering.render(&build(b"1")).unwrap();
        let before = files(&rendering);
        let text = Build { module: b"text".to_vec(), ..build(b"") };
        assert!(matches!(rendering.render(&text), Err(RenderError::Build(BuildError::NotWasm))));
        let wrong = Build { policy: json!({ "max_depth": 0 }), ..build(b"2") };
        assert!(matches!(rendering.render(&wrong), Err(RenderError::Build(BuildError::Settings(_)))));
        assert!(matches!(rendering.render(&build(&[0; SECRET_LIMIT])), Err(RenderError::TooLarge(_))));
        assert_eq!(files(&rendering), before);
    }
}
