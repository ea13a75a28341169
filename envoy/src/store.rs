//! The directory that Envoy and guardctl share.
//!
//! ```text
//! ecds/filter.json             the resource that Envoy serves; replaced only by renaming
//! builds/filter-<sha256>.wasm  the modules, named by their hash
//! published/<number>.json      the publications that are kept; the newest has the highest number
//! lock                         held during a publication
//! ```
//!
//! Every file is written under a temporary name, flushed to disk, and then renamed. So a crash at
//! any instant leaves either the previous file or the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::module;

/// A publication: one build at one time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publication {
    /// Its number in the order of publications, from 1.
    pub number: u64,
    /// The build's name: the filter's version, and parts of the module's hash and of the settings'
    /// hash.
    pub build: String,
    /// The module's SHA-256, in hexadecimal.
    pub sha256: String,
    /// The discovery response.
    pub response: Value,
}

/// The shared directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The beginning of the names of modules that were published before the filter was renamed.
const OLD_PREFIX: &str = "guard-";
/// Permissions that let an Envoy of another user read the files.
const SHARED_FILE: u32 = 0o666;

impl Store {
    /// Opens the directory, or creates it.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["ecds", "builds", "published"] {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root: fs::canonicalize(root)? })
    }

    /// Returns the path of the file that Envoy watches.
    pub fn served_file(&self) -> PathBuf {
        self.root.join("ecds/filter.json")
    }

    /// Waits for the lock on publications. Dropping the file releases the lock.
    ///
    /// # Errors
    /// If the lock file cannot be opened.
    pub fn lock(&self) -> io::Result<File> {
        let file = File::create(self.root.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Stores a module under its hash. Returns the hash and the path.
    ///
    /// # Errors
    /// If the module cannot be written.
    pub fn keep_build(&self, module: &[u8]) -> io::Result<(String, PathBuf)> {
        let sha256 = hex(&Sha256::digest(module));
        let path = self.build_path(&sha256);
        if fs::read(&path).ok().as_deref() != Some(module) {
            write_durably(&path, module)?;
        }
        Ok((sha256, path))
    }

    /// Returns the version that the module of a publication states, if the module can be read and
    /// states one.
    pub fn version(&self, publication: &Publication) -> Option<String> {
        let module = fs::read(self.build_path(&publication.sha256)).ok()?;
        module::version(&module).map(str::to_owned)
    }

    /// Returns the publications that are kept, oldest first.
    ///
    /// # Errors
    /// If a file cannot be read, or is not a publication.
    pub fn publications(&self) -> io::Result<Vec<Publication>> {
        let mut publications = Vec::new();
        for entry in fs::read_dir(self.root.join("published"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let publication: Publication = serde_json::from_slice(&fs::read(&path)?)
                    .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
                publications.push(publication);
            }
        }
        publications.sort_by_key(|publication| publication.number);
        Ok(publications)
    }

    /// Records a publication without serving it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&self, publication: &Publication) -> io::Result<()> {
        write_durably(&self.publication_path(publication), &serde_json::to_vec_pretty(publication)?)
    }

    /// Removes a publication from the record.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, publication: &Publication) -> io::Result<()> {
        fs::remove_file(self.publication_path(publication))
    }

    /// Makes Envoy load a discovery response.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn serve(&self, response: &Value) -> io::Result<()> {
        write_durably(&self.served_file(), &serde_json::to_vec_pretty(response)?)
    }

    /// Returns the resource that Envoy serves, or none before the first publication.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn served(&self) -> io::Result<Option<Value>> {
        match fs::read(self.served_file()) {
            Ok(response) => Ok(Some(serde_json::from_slice(&response)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the publication that Envoy serves. It is not always the newest, because a publisher
    /// may die before it serves a publication.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn current(&self) -> io::Result<Option<Publication>> {
        let served = self.served()?;
        Ok(self.publications()?.into_iter().rfind(|publication| Some(&publication.response) == served.as_ref()))
    }

    /// Removes all publications except the newest `keep` and the served one, and the modules that
    /// none of these uses.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn prune(&self, keep: usize) -> io::Result<()> {
        let mut publications = self.publications()?;
        let mut kept = publications.split_off(publications.len().saturating_sub(keep.max(1)));
        let served = self.served()?;
        for old in publications {
            if Some(&old.response) == served.as_ref() {
                kept.push(old);
            } else {
                self.forget(&old)?;
            }
        }
        let named: Vec<_> = kept.iter().map(|publication| self.build_path(&publication.sha256)).collect();
        for entry in fs::read_dir(self.root.join("builds"))? {
            let entry = entry?;
            let path = entry.path();
            // Until it is restarted with the present bootstrap, an Envoy loads its filter from here
            // if it has to start again.
            let has_old_name = entry.file_name().to_string_lossy().starts_with(OLD_PREFIX);
            if !has_old_name && !named.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn build_path(&self, sha256: &str) -> PathBuf {
        self.root.join(format!("builds/filter-{sha256}.wasm"))
    }

    fn publication_path(&self, publication: &Publication) -> PathBuf {
        self.root.join(format!("published/{:08}.json", publication.number))
    }
}

/// Returns bytes in hexadecimal, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    // Not in the target's directory, because any new file in `ecds/` would wake Envoy.
    let folder = path.parent().unwrap_or(Path::new("."));
    let unfinished = NewFile { path: folder.with_extension("unfinished"), mode: SHARED_FILE };
    replace_durably(path, &unfinished, content)
}

/// A file to create.
pub(crate) struct NewFile {
    /// Its path. A file that already exists there is removed.
    pub(crate) path: PathBuf,
    /// Its permissions, from which the process's umask is subtracted.
    pub(crate) mode: u32,
}

impl NewFile {
    fn create(&self) -> io::Result<File> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(self.mode).open(&self.path)
    }
}

/// Writes `content` to `unfinished`, which must be on the same file system, and renames it to
/// `path`. A crash at any instant leaves either the previous file or the new one.
pub(crate) fn replace_durably(path: &Path, unfinished: &NewFile, content: &[u8]) -> io::Result<()> {
    let written = unfinished.create().and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished.path, path)
    });
    if written.is_err() {
        _ = fs::remove_file(&unfinished.path);
    }
    written?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(store: &Store, number: u64, module: &[u8]) -> Publication {
        let (sha256, _) = store.keep_build(module).unwrap();
        let publication = Publication { number, build: sha256[..12].to_owned(), sha256, response: Value::Null };
        store.record(&publication).unwrap();
        publication
    }

    #[test]
    fn pruning_keeps_the_newest_publications_and_their_modules() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (number, module) in [(1, b"a"), (2, b"b"), (10, b"a"), (11, b"c")] {
            publication(&store, number, module);
        }
        store.prune(2).unwrap();
        let kept: Vec<_> = store.publications().unwrap().iter().map(|publication| publication.number).collect();
        assert_eq!(kept, [10, 11]);
        assert_eq!(fs::read_dir(folder.path().join("builds")).unwrap().count(), 2);
    }

    #[test]
    fn pruning_keeps_the_served_publication_however_old_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut first = publication(&store, 1, b"a");
        first.response = serde_json::json!({ "version_info": "1" });
        store.record(&first).unwrap();
        store.serve(&first.response).unwrap();
        for (number, module) in [(2, b"b"), (3, b"c")] {
            publication(&store, number, module);
        }
        store.prune(1).unwrap();
        let kept: Vec<_> = store.publications().unwrap().iter().map(|publication| publication.number).collect();
        assert_eq!(kept, [1, 3]);
        assert_eq!(store.current().unwrap().unwrap().number, 1);
        assert!(store.build_path(&first.sha256).is_file());
    }

    #[test]
    fn pruning_keeps_the_modules_of_an_envoy_with_the_old_bootstrap() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let old = folder.path().join("builds/guard-0123.wasm");
        fs::write(&old, b"old").unwrap();
        publication(&store, 1, b"a");
        store.prune(1).unwrap();
        assert!(old.is_file());
    }

    #[test]
    fn an_envoy_of_another_user_can_read_what_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (_, module) = store.keep_build(b"module").unwrap();
        store.serve(&Value::Null).unwrap();
        // Has the permissions that the umask leaves.
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions();
        for file in [module, store.served_file()] {
            assert_eq!(permissions(&file), permissions(&plain), "{}", file.display());
        }
    }

    #[test]
    fn a_module_that_was_damaged_on_disk_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (_, path) = store.keep_build(b"module").unwrap();
        fs::write(&path, b"mod").unwrap();
        assert_eq!(store.keep_build(b"module").unwrap().1, path);
        assert_eq!(fs::read(path).unwrap(), b"module");
    }
}
