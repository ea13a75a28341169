//! Everything that one run of the container tests needs and creates.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{
    base_images,
    docker::Docker,
    engine::{Data, Engine},
    pages::Performed,
    project::Project,
    steps::Steps,
};
use crate::tools;

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
            projects: Vec::new(),
            left,
        })
    }

    /// Finds or starts an engine, and provides the base images.
    ///
    /// # Errors
    /// If either is impossible.
    pub async fn open(&mut self) -> Result<()> {
        let Self { steps, shared, folder, engine, docker, made, .. } = self;
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
    pub fn project(&mut self, name: &str) -> Result<Project> {
        let name = format!("edge-test-{name}-{}", std::process::id());
        let project = Project::new(self.docker()?, &name, &self.folder, &self.performed)?;
        self.projects.push(project.clone());
        Ok(project)
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
            // With an engine of this run, its data go.
            if let (Some(docker), None) = (&self.docker, &self.engine) {
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

/// A step's result that the progress does not show.
struct Opened(Docker);

impl std::fmt::Display for Opened {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
