//! The images that ours are built on.
//!
//! Where they cannot be pulled, they are made locally under the same names: a Debian system by
//! debootstrap, and on it the compiler of Debian, or the Envoy or the Redis of [`tools`]. They are
//! for the tests on this machine alone, and must never be pushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::{
    command::run,
    docker::{BUILD, Docker, QUICK},
};
use crate::tools::{self, say};

/// How long the first pull may take, which shows whether images can be pulled.
const FIRST_PULL: Duration = Duration::from_secs(60);
/// The image in which the tests run commands of their own.
pub const DEBIAN_IMAGE: &str = "debian:bookworm-slim";
/// The first image to pull, since it is the smallest, and the base of those that are made locally.
const DEBIAN: &str = "debian";
/// The only image that cannot be made locally. Where it cannot be pulled, its container is not
/// tested.
const GRAFANA: &str = "grafana/grafana";
/// The certificates of the host.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Provides every image that `Dockerfile` and the Compose files name. Appends to `made` the names of
/// those that are made locally.
///
/// # Errors
/// If an image other than Grafana's can be neither pulled nor made.
pub async fn provide(docker: &Docker, folder: &Path, made: &mut Vec<String>) -> Result<()> {
    let mut missing = Vec::new();
    for name in named()? {
        if docker.run(&["image", "inspect", &name]).await.is_err() {
            missing.push(name);
        }
    }
    // Debian comes first.
    missing.sort_by_key(|name| !is(name, DEBIAN));
    let Some(first) = missing.first() else { return Ok(()) };
    if let Err(error) = docker.run_within(FIRST_PULL, &["pull", "--quiet", first]).await {
        let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
        say(&format!("{first} cannot be pulled ({reason}); making {} locally", missing.join(", ")));
        return make_all(docker, &missing, folder, made).await;
    }
    for name in &missing[1..] {
        docker.run_within(BUILD, &["pull", "--quiet", name]).await?;
    }
    Ok(())
}

/// The names of the images that the Dockerfile and the Compose files use and do not build.
fn named() -> Result<BTreeSet<String>> {
    let read = |file: &str| fs::read_to_string(tools::workspace().join(file)).with_context(|| file.to_owned());
    let mut names = in_dockerfile(&read("Dockerfile")?);
    for file in ["docker-compose.yml", "deploy/compose/monitoring.yml"] {
        names.extend(in_compose_file(&read(file)?));
    }
    Ok(names)
}

/// The images in `FROM` and `COPY --from`, other than stages.
fn in_dockerfile(text: &str) -> BTreeSet<String> {
    let mut arguments = BTreeMap::new();
    let mut stages = BTreeSet::new();
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ARG", argument] => {
                if let Some((name, default)) = argument.split_once('=') {
                    arguments.insert(name.to_owned(), default.trim_matches('"').to_owned());
                }
            }
            ["FROM", image, rest @ ..] => {
                names.insert(expand(image, &arguments));
                if let [_, stage] = rest {
                    stages.insert((*stage).to_owned());
                }
            }
            ["COPY", options @ ..] => {
                let from = options.iter().find_map(|option| option.strip_prefix("--from="));
                names.extend(from.map(|image| expand(image, &arguments)));
            }
            _ => {}
        }
    }
    names.retain(|name| !stages.contains(name) && name != "scratch");
    names
}

/// Replaces `${NAME}` and `$NAME` by the defaults of the build arguments.
fn expand(image: &str, arguments: &BTreeMap<String, String>) -> String {
    arguments.iter().rev().fold(image.to_owned(), |image, (name, value)| {
        image.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
    })
}

/// The images of services that are not built.
fn in_compose_file(text: &str) -> BTreeSet<String> {
    let images = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    // Ours have a variable in their names.
    images.map(str::to_owned).filter(|image| !image.contains('$') && !image.starts_with("truenroll-edge")).collect()
}

fn is(image: &str, repository: &str) -> bool {
    image.split_once(':').is_some_and(|(name, _)| name == repository)
}

async fn make_all(docker: &Docker, missing: &[String], folder: &Path, made: &mut Vec<String>) -> Result<()> {
    let debian = match missing.iter().find(|name| is(name, DEBIAN)) {
        Some(missing) => missing.clone(),
        None => named()?.into_iter().find(|name| is(name, DEBIAN)).context("no image is built on Debian")?,
    };
    for name in missing {
        let folder = tempfile::tempdir_in(folder)?;
        match name.split(':').next().unwrap_or_default() {
            DEBIAN => make_debian(docker, name, folder.path()).await?,
            "rust" => {
                fs::copy(CERTIFICATES, folder.path().join("ca-certificates.crt")).context(CERTIFICATES)?;
                build(docker, name, "rust", &debian, folder.path()).await?;
            }
            "envoyproxy/envoy" => {
                fs::copy(blocking(tools::envoy).await?, folder.path().join("envoy"))?;
                build(docker, name, "envoy", &debian, folder.path()).await?;
            }
            "redis" => {
                fs::copy(blocking(tools::redis_server).await?, folder.path().join("redis-server"))?;
                build(docker, name, "redis", &debian, folder.path()).await?;
            }
            "prom/prometheus" => build(docker, name, "prometheus", &debian, folder.path()).await?,
            GRAFANA => {
                say(&format!("{name} can be neither pulled nor made here, so Grafana is not started"));
                continue;
            }
            _ => bail!("{name} cannot be pulled, and the tests cannot make it: add it to `base_images`"),
        }
        made.push(name.clone());
    }
    Ok(())
}

/// Runs what blocks on another thread.
async fn blocking<T: Send + 'static>(work: fn() -> Result<T>) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Imports a minimal Debian system with the host's sources of packages, for the same updates.
async fn make_debian(docker: &Docker, name: &str, folder: &Path) -> Result<()> {
    let release = name.split([':', '-']).nth(1).context("the image's tag names no release")?;
    let root = folder.join("root");
    if tools::on_path("debootstrap").is_none() {
        blocking(|| tools::apt_install(&["debootstrap"])).await?;
    }
    run(Command::new("debootstrap").args(["--variant=minbase", release]).arg(&root), BUILD).await?;
    let sources = Path::new("/etc/apt/sources.list.d/debian.sources");
    let is_same_release = fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains(release));
    if sources.is_file() && is_same_release {
        fs::copy(sources, root.join("etc/apt/sources.list.d/debian.sources"))?;
        fs::write(root.join("etc/apt/sources.list"), "")?;
    }
    let import = "tar -C \"$1\" --exclude=./var/cache/apt/archives/*.deb -c . | docker import - \"$2\"";
    let mut command = docker.command("sh");
    run(command.args(["-euc", import, "sh"]).arg(&root).arg(name), BUILD).await.map(drop)
}

async fn build(docker: &Docker, name: &str, kind: &str, debian: &str, folder: &Path) -> Result<()> {
    for file in fs::read_dir(tools::workspace().join("tests/containers").join(kind))? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    let base = format!("BASE={debian}");
    let mut command = docker.command("docker");
    command.args(["build", "--tag", name, "--build-arg", &base]).arg(folder);
    run(&mut command, BUILD).await.map(drop)
}

/// Removes images that this run made.
///
/// # Errors
/// If the engine does not answer.
pub async fn remove(docker: &Docker, made: &[String]) -> Result<()> {
    for name in made {
        docker.run_within(QUICK, &["rmi", "--force", name]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_dockerfile_names_its_bases() {
        let text = "\
ARG RUST=rust:1.95-bookworm
ARG ENVOY_VERSION=\"v1.40.0\"
FROM ${RUST} AS dependencies
FROM dependencies AS build
RUN true
FROM debian:bookworm-slim
COPY --from=envoyproxy/envoy:${ENVOY_VERSION} /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=build --chown=1:1 /a /b
";
        let expected = names(&["debian:bookworm-slim", "envoyproxy/envoy:v1.40.0", "rust:1.95-bookworm"]);
        assert_eq!(in_dockerfile(text), expected);
    }

    #[test]
    fn the_compose_file_names_images_that_it_does_not_build() {
        let text = "  backend:\n    image: truenroll-edge-backend\n  redis:\n    image: redis:8\n    x: ${Y}\n";
        assert_eq!(in_compose_file(text), names(&["redis:8"]));
    }
}
