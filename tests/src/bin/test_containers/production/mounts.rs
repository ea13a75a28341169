//! Files in images and mounted files: who can read them, and that an edited one is seen.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, bail, ensure};
use harness::containers::{Production, Steps, base_images::DEBIAN_IMAGE};

pub(super) async fn run(steps: &mut Steps, production: &Production) -> Result<()> {
    // The project's copy has the modes of a clone with the umask 027.
    steps.step("the files in the image of Envoy are readable", readable(production)).await?;
    steps.step("an unreadable policy is explained", unreadable(production)).await?;
    steps.step("a running backend sees an edited policy", edited(production)).await?;
    Ok(())
}

/// Runs Envoy's image without the mounted folder, so that guardctl reads the files in the image.
async fn readable(production: &Production) -> Result<String> {
    let project = &production.project;
    let image = project.container("envoy").await?.image().await?;
    let bootstrap = "/etc/envoy/bootstrap.yaml";
    let command = ["run", "--bootstrap", bootstrap, "--enable", "tls", "--", "envoy", "--version"];
    let run = ["run", "--rm", "--entrypoint", "guardctl", &image];
    project.docker().run(&[&run[..], &command].concat()).await?;
    Ok(String::new())
}

async fn unreadable(production: &Production) -> Result<String> {
    let project = &production.project;
    let policy = project.folder.join("envoy/policy.toml");
    fs::set_permissions(&policy, PermissionsExt::from_mode(0o640))?;
    let token = ["run", "--rm", "--no-deps", "filter", "guardctl", "token", "--policy", "/etc/edge/policy.toml"];
    let result = project.compose(&token).await;
    fs::set_permissions(&policy, PermissionsExt::from_mode(0o644))?;
    let Err(error) = result else { bail!("a policy that only its owner can read was read") };
    let message = format!("{error:#}");
    ensure!(message.contains("user with ID 65532"), "the error does not say who must be able to read it: {message}");
    Ok(String::new())
}

/// Most editors replace a file by a new one.
async fn edited(production: &Production) -> Result<String> {
    let project = &production.project;
    let pid = project.container("backend").await?.pid().await?;
    project.edit("envoy/policy.toml", "max_body_bytes = 16384", "max_body_bytes = 16000")?;
    // As the process sees it: `docker cp` would mount the folder once more.
    let show = format!("cat /proc/{pid}/root/etc/edge/policy.toml");
    let command = ["run", "--rm", "--pid=host", "--user=0", "--cap-add=SYS_PTRACE", DEBIAN_IMAGE, "sh", "-c", &show];
    let seen = project.docker().run(&command).await?;
    project.edit("envoy/policy.toml", "max_body_bytes = 16000", "max_body_bytes = 16384")?;
    ensure!(seen.contains("max_body_bytes = 16000"), "the backend still sees the policy from before the edit");
    Ok(String::new())
}
