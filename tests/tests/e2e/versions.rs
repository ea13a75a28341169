//! The programs, the filter and the changelog agree on the version.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use envelope::version::{self, NUMBER};
use envoy::{module, store::Store};
use harness::{process::free_port, tools};

/// Returns what a program prints about its version.
fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn the_programs_the_filter_and_the_changelog_agree_on_the_version() {
    assert!(version::text().starts_with(NUMBER));
    let backend = tools::workspace_binary("backend", "backend", &[]).unwrap();
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    let sim = tools::workspace_binary("simulator", "sim", &[]).unwrap();
    for (program, name) in [
        (backend.as_path(), "backend"),
        (&guardctl, "guardctl"),
        (Path::new(env!("CARGO_BIN_EXE_up")), "cargo up"),
        (&sim, "cargo sim"),
    ] {
        assert_eq!(version_of(program), format!("{name} {}", version::text()));
    }
    let filter = fs::read(tools::wasm_filter().unwrap()).unwrap();
    assert_eq!(module::version(&filter), Some(NUMBER));
    let dockerfile = fs::read_to_string(tools::workspace().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("\nARG VERSION={NUMBER}\n")), "the Dockerfile's default for VERSION");
}

#[test]
fn a_tag_is_released_only_if_it_is_the_version_and_the_changelog_has_its_section() {
    let release_notes = |tag: &str| {
        let script = tools::workspace().join(".ci/release-notes");
        Command::new(script).arg(tag).stdin(Stdio::null()).output().unwrap()
    };
    let notes = release_notes(&format!("v{NUMBER}"));
    assert!(notes.status.success() && notes.stdout.starts_with(b"\n### "), "{notes:?}");
    for tag in ["v0.0.0", NUMBER, "v"] {
        assert_eq!(release_notes(tag).status.code(), Some(1), "{tag}");
    }
}

#[test]
fn the_name_of_a_build_begins_with_the_version_of_its_filter() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("edge");
    let guardctl = |subcommand: &str| {
        let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
        let no_envoy = format!("http://127.0.0.1:{}", free_port().unwrap());
        command.args([subcommand, "--edge", &no_envoy, "--dir"]).arg(&dir);
        command
    };
    let mut publish = guardctl("publish");
    publish.arg("--wasm").arg(tools::wasm_filter().unwrap()).arg("--proof-file").arg(folder.path().join("proof"));
    assert!(publish.args(["--rehearse-with", "none"]).stdin(Stdio::null()).output().unwrap().status.success());

    let build = Store::open(&dir).unwrap().publications().unwrap().remove(0).build;
    assert!(build.starts_with(&format!("{}-", NUMBER.replace('.', "-"))), "{build}");
    let listed = String::from_utf8(guardctl("status").output().unwrap().stdout).unwrap();
    assert!(listed.contains(&format!("{build}  filter {NUMBER}  published")), "{listed}");
}
