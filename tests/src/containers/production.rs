//! The Compose file as it stands, with the simulator as the outside world.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{
    outside::{Outside, Secrets},
    project::Project,
    session::Session,
};

/// The long-running services.
pub const SERVICES: [&str; 3] = ["redis", "backend", "envoy"];

/// A running deployment.
pub struct Production {
    /// The project.
    pub project: Project,
    /// The simulator and a sender that never retries.
    pub outside: Outside,
}

impl Production {
    /// Creates a project and writes its `.env`. Nothing runs yet.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn prepare(session: &mut Session, name: &str) -> Result<Self> {
        let project = session.project(name).await?;
        Self::configure(project, &Secrets::default()).await
    }

    /// Starts the outside world of a project and writes the project's `.env`. Nothing else runs yet.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub async fn configure(project: Project, secrets: &Secrets) -> Result<Self> {
        let outside = Outside::start(project.docker(), &project, secrets).await?;
        let example = fs::read_to_string(project.folder.join(".env.example")).context(".env.example")?;
        fs::write(project.folder.join(".env"), filled(&example, &outside.settings(secrets))?)?;
        Ok(Self { project, outside })
    }

    /// Starts everything with the command that README.md shows, and waits until all services are
    /// healthy.
    ///
    /// # Errors
    /// If a service does not become healthy.
    pub async fn up(&self) -> Result<()> {
        self.project.shown("README.md", "docker compose up -d --build").await?;
        self.project.healthy(&SERVICES).await
    }

    /// Creates a deployment and starts it.
    ///
    /// # Errors
    /// If a service does not become healthy.
    pub async fn start(session: &mut Session, name: &str) -> Result<Self> {
        let production = Self::prepare(session, name).await?;
        session
            .steps
            .step(&format!("{name}: build and start"), async {
                production.up().await?;
                Ok("")
            })
            .await?;
        Ok(production)
    }

    /// The build of the filter that Envoy serves.
    ///
    /// # Errors
    /// If Envoy does not say.
    pub async fn build(&self) -> Result<String> {
        let status = self.project.compose(&["run", "--rm", "--no-deps", "filter", "guardctl", "status"]).await?;
        let serves = status.lines().find_map(|line| line.trim().strip_prefix("Envoy serves "));
        Ok(serves.with_context(|| format!("`guardctl status` does not say what Envoy serves: {status}"))?.to_owned())
    }
}

/// Fills in the settings of an example of `.env`, whether they are commented out there or not.
fn filled(example: &str, settings: &[(&str, String)]) -> Result<String> {
    let mut text = String::new();
    let mut missing: Vec<_> = settings.iter().map(|(name, _)| *name).collect();
    for line in example.lines() {
        let setting = line.trim_start_matches(['#', ' ']).split_once('=').map(|(name, _)| name);
        match settings.iter().find(|(name, _)| setting == Some(name)) {
            Some((name, value)) => {
                missing.retain(|other| other != name);
                text.push_str(&format!("{name}={value}\n"));
            }
            None => text.push_str(&format!("{line}\n")),
        }
    }
    ensure!(missing.is_empty(), ".env.example lacks {missing:?}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_filled_in() {
        let settings = [("A", "1".to_owned()), ("B", "2".to_owned())];
        assert_eq!(filled("# about A\nA=\n#B=x\nC=3\n", &settings).unwrap(), "# about A\nA=1\nB=2\nC=3\n");
        assert!(filled("A=\n", &settings).is_err());
    }
}
