use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, thread};

use serde_json::json;

use super::*;

fn build(module: &[u8]) -> Build {
    Build { module: [b"\0asm", module].concat(), policy: json!({}), proof: "0123456789abcdef".to_owned() }
}

fn rendering(out: &Path) -> Rendering {
    Rendering { out: out.join("new/filter"), mount: PathBuf::from("/mount"), rehearse_with: None }
}

/// The names and contents of the rendered files.
fn files(rendering: &Rendering) -> BTreeMap<String, String> {
    fs::read_dir(&rendering.out)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != ".lock")
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

/// The content of the Secret that Kustomize makes of the rendered files.
fn secret(rendering: &Rendering) -> BTreeMap<String, String> {
    let kustomization = fs::read_to_string(rendering.out.join("kustomization.yaml")).unwrap();
    let (_, listed) = kustomization.split_once("  files:\n").unwrap();
    let entries = listed.lines().map(|line| line.trim_start().strip_prefix("- ").unwrap());
    entries
        .map(|entry| entry.split_once('=').unwrap_or((entry, entry)))
        .map(|(key, file)| (key.to_owned(), fs::read_to_string(rendering.out.join(file)).unwrap()))
        .collect()
}

/// The names of the files of a build.
fn names(build: &Build) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    rendering.render(build).unwrap();
    files(&rendering).into_keys().collect()
}

#[test]
fn the_resource_names_the_module_through_the_link_that_a_kubelet_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    let (name, response) = rendering.render(&build(b"1")).unwrap();
    let secret = secret(&rendering);
    let [(module, content), (resource, json)] = &secret.iter().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((resource.as_str(), content.as_str()), (RESOURCE, "\0asm1"));
    assert_eq!(serde_json::from_str::<Value>(json).unwrap(), response);
    assert_eq!(ecds::settings(&response).unwrap().build, name);
    let named = response.pointer("/resources/0/typed_config/config/vm_config/code/local/filename").unwrap();
    assert_eq!(named, &json!(format!("/mount/..data/{module}")));
}

#[test]
fn a_build_replaces_the_one_before_and_is_always_rendered_as_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    rendering.render(&build(b"1")).unwrap();
    let first = files(&rendering);
    // A render that was killed left this.
    fs::write(rendering.out.join(".filter-0.json.unfinished"), "proof").unwrap();
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

#[test]
fn only_the_owner_can_read_the_token_and_the_proof() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    rendering.render(&build(b"1")).unwrap();
    assert_eq!(mode(&rendering.out), 0o700);
    // What others can read is replaced, whether it was rendered before or is the rest of a killed
    // render.
    for name in files(&rendering).into_keys() {
        for name in [format!(".{name}.unfinished"), name] {
            fs::write(rendering.out.join(&name), "").unwrap();
            fs::set_permissions(rendering.out.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    rendering.render(&build(b"1")).unwrap();
    for name in files(&rendering).into_keys() {
        assert_eq!(mode(&rendering.out.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_render_that_fails_at_any_file_leaves_the_previous_build() {
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    rendering.render(&build(b"1")).unwrap();
    let before = secret(&rendering);
    let names = names(&build(b"2"));
    assert_eq!(names.len(), 3);
    for name in names {
        let obstacle = rendering.out.join(format!(".{name}.unfinished"));
        fs::create_dir(&obstacle).unwrap();
        let result = rendering.render(&build(b"2"));
        assert!(matches!(result, Err(RenderError::Unwritable(..))), "{name}: {result:?}");
        fs::remove_dir(obstacle).unwrap();
        assert_eq!(secret(&rendering), before, "{name}");
    }
    rendering.render(&build(b"2")).unwrap();
    assert_ne!(secret(&rendering), before);
    assert_eq!(files(&rendering).len(), 3);
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_no_unfinished_file() {
    for name in names(&build(b"1")) {
        let folder = tempfile::tempdir().unwrap();
        let rendering = rendering(folder.path());
        fs::create_dir_all(rendering.out.join(&name)).unwrap();
        assert!(matches!(rendering.render(&build(b"1")), Err(RenderError::Unwritable(..))), "{name}");
        fs::remove_dir(rendering.out.join(&name)).unwrap();
        let unfinished: Vec<_> = files(&rendering).into_keys().filter(|file| file.ends_with(".unfinished")).collect();
        assert_eq!(unfinished, [""; 0], "{name}");
    }
}

#[test]
fn renders_at_the_same_time_do_not_mix_their_builds() {
    let folder = tempfile::tempdir().unwrap();
    let rendering = rendering(folder.path());
    let render = |module: &[u8; 1]| (0..10).try_for_each(|_| rendering.render(&build(module)).map(drop));
    thread::scope(|scope| {
        let renders = [b"1", b"2"].map(|module| scope.spawn(|| render(module)));
        for result in renders.map(|render| render.join().unwrap()) {
            result.unwrap();
        }
    });
    assert_eq!(files(&rendering).len(), 3);
    let secret = secret(&rendering);
    rendering.render(&build(b"1")).unwrap();
    let first = self::secret(&rendering);
    rendering.render(&build(b"2")).unwrap();
    assert!([first, self::secret(&rendering)].contains(&secret));
}
