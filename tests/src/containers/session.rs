//! Everything that one run of the container tests needs and creates.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use super::{
    base_images,
    docker::Docker,
    engine::{Data, Engine},
    pages::Performed,
    project::Project,
    steps::Steps,
};
use crate::tools;

const TITLE: &str = r#"{{index .Config.Labels "org.opencontainers.image.title"}}"#;

/// What a run leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// Its projects, its base images and the data of its engine.
    Everything,
}

/// One run: its engine, its base images, its projects, and its progress.
#[derive(Debug)]
pub struct Session {
    /// The progress.
    pub steps: Steps,
    /// The commands that its projects have performed.
    pub performed: Performed,
    /// Where an engine keeps its data, for a next run if it is kept.
    shared: PathBuf,
    /// The files of this run.
    folder: PathBuf,
    engine: Option<Engine>,
    docker: Option<Docker>,
    made: Vec<String>,
    /// The unnamed images that were there before this run.
    unnamed_before: BTreeSet<String>,
    /// The images that the run may name, and which ones had these names before.
    named: Vec<(String, Option<String>)>,
    projects: Vec<Project>,
    left: Left,
}

impl Session {
    /// Creates a session. It has no engine yet: see [`open`](Self::open).
    ///
    /// # Errors
    /// If its folder cannot be created.
    pub fn new(left: Left) -> Result<Self> {
        let shared = tools::target().join("containers");
        let folder = shared.join(std::process::id().to_string());
        fs::create_dir_all(&folder)?;
        Ok(Self {
            steps: Steps::default(),
            performed: Performed::default(),
            shared,
            folder,
            engine: None,
            docker: None,
            made: Vec::new(),
            unnamed_before: BTreeSet::new(),
            named: Vec::new(),
            projects: Vec::new(),
            left,
        })
    }

    /// Finds or starts an engine, and provides the base images.
    ///
    /// # Errors
    /// If either is impossible.
    pub async fn open(&mut self) -> Result<()> {
        let Self { steps, shared, folder, engine, docker, made, unnamed_before, .. } = self;
        let found = steps.step("Docker engine", async {
            *engine = Engine::find(shared).await?;
            let host = engine.as_ref().map(Engine::host);
            Docker::new(host.as_deref(), folder).await.map(Opened)
        });
        let found = found.await?.0;
        let images = async {
            base_images::provide(&found, folder, made).await?;
            Ok(if made.is_empty() { String::new() } else { format!("made {}", made.join(", ")) })
        };
        steps.step("base images", images).await?;
        *unnamed_before = unnamed(&found).await?;
        *docker = Some(found);
        Ok(())
    }

    /// The engine's command line.
    ///
    /// # Errors
    /// If the session is not open.
    pub fn docker(&self) -> Result<&Docker> {
        self.docker.as_ref().context("the session is not open")
    }

    /// Creates a project. Its name begins with `name`, and no other run on this engine has it.
    ///
    /// # Errors
    /// If the repository cannot be copied.
    pub async fn project(&mut self, name: &str) -> Result<Project> {
        let name = format!("edge-test-{name}-{}", std::process::id());
        let project = Project::new(self.docker()?, &name, &self.folder, &self.performed).await?;
        self.projects.push(project.clone());
        Ok(project)
    }

    /// Announces that the run gives images these names, which are not those of a project. At the end,
    /// the images that have these names now get them back.
    ///
    /// # Errors
    /// If the session is not open.
    pub async fn name(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let before = self.docker()?.run(&["image", "inspect", "--format", "{{.Id}}", name]).await.ok();
            self.named.push(((*name).to_owned(), before));
        }
        Ok(())
    }

    /// The end of the logs of all projects, for an error.
    pub async fn logs(&self) -> String {
        let mut logs = String::new();
        for project in &self.projects {
            logs.push_str(&project.logs().await);
        }
        logs
    }

    /// Removes the projects so far.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub async fn remove_projects(&mut self) -> Result<()> {
        for project in std::mem::take(&mut self.projects) {
            project.remove().await?;
        }
        Ok(())
    }

    /// Removes everything that the run has created, and stops the engine that it started.
    ///
    /// # Errors
    /// If something cannot be removed. Everything else is removed anyway.
    pub async fn close(mut self) -> Result<()> {
        let keeps = self.left == Left::Everything;
        let mut result = Ok(());
        if !keeps {
            result = self.remove_projects().await;
            if let Some(docker) = &self.docker {
                for (name, before) in &self.named {
                    result = result.and(rename(docker, name, before.as_deref()).await);
                }
            }
            // With an engine of this run, its data go.
            if let (Some(docker), None) = (&self.docker, &self.engine) {
                result = result.and(remove_unnamed(docker, &self.unnamed_before).await);
                result = result.and(base_images::remove(docker, &self.made).await);
            }
        }
        if let Some(engine) = self.engine {
            result = result.and(engine.stop(if keeps { Data::Kept } else { Data::Deleted }).await);
        }
        if !keeps {
            result = result.and(fs::remove_dir_all(&self.folder).context("cannot remove the files of this run"));
        }
        result
    }
}

/// Gives a name back to the image that had it before, or removes it.
async fn rename(docker: &Docker, name: &str, before: Option<&str>) -> Result<()> {
    let now = docker.run(&["image", "inspect", "--format", "{{.Id}}", name]).await.ok();
    match (now, before) {
        (now, Some(before)) if now.as_deref() != Some(before) => docker.run(&["tag", before, name]).await.map(drop),
        (Some(_), None) => docker.run(&["rmi", name]).await.map(drop),
        _ => Ok(()),
    }
}

/// The images of this repository that have no name, and on which no other image is built: an image
/// that is replaced loses its name to the new one.
async fn unnamed(docker: &Docker) -> Result<BTreeSet<String>> {
    let label = "label=org.opencontainers.image.title";
    let ids = docker.list(&["images", "--quiet", "--no-trunc", "--filter", "dangling=true", "--filter", label]).await?;
    let mut unnamed = BTreeSet::new();
    for id in ids {
        let title = docker.run(&["image", "inspect", "--format", TITLE, &id]).await?;
        if title.starts_with("truenroll-edge-") {
            unnamed.insert(id);
        }
    }
    Ok(unnamed)
}

/// Removes the unnamed images other than those that were there `before`. The engine refuses to
/// remove an image on which another one is built, but lists it once the other one is gone.
async fn remove_unnamed(docker: &Docker, before: &BTreeSet<String>) -> Result<()> {
    let mut last = BTreeSet::new();
    loop {
        let new: BTreeSet<_> = unnamed(docker).await?.difference(before).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        ensure!(new != last, "cannot remove the images {new:?}");
        for image in &new {
            // If it fails, the image is still listed.
            let _ = docker.run(&["rmi", image]).await;
        }
        last = new;
    }
}

/// A step's result that the progress does not show.
struct Opened(Docker);

impl std::fmt::Display for Opened {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
