//! The modules of a crate, and which of them use which.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
};

use crate::source::Names;

/// A crate's source files.
pub(crate) struct Tree {
    files: Vec<File>,
    /// What the crate's root re-exports, and from which module.
    exports: BTreeMap<String, String>,
}

/// One source file.
pub(crate) struct File {
    /// The module that it is, from the crate's root on; empty for the root.
    pub(crate) module: Vec<String>,
    /// What it names.
    pub(crate) names: Names,
}

/// For each top-level module, the top-level modules that it uses.
pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

impl Tree {
    /// Reads the library in a `src` folder. Binaries and tests are not a part of it.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn read(src: &Path) -> io::Result<Self> {
        let mut sources = Vec::new();
        for path in rust_files(src)? {
            let inside = path.strip_prefix(src).map_err(io::Error::other)?.with_extension("");
            let module: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let is_other_crate = module[0] == "bin" || module == ["main"];
            let is_test = module.iter().any(|part| part == "tests");
            if !is_other_crate && !is_test {
                sources.push((module.join("/"), fs::read_to_string(&path)?));
            }
        }
        Ok(Self::new(sources.iter().map(|(path, text)| (path.as_str(), text.as_str()))))
    }

    /// A crate of these files: their paths without `.rs`, and their text.
    pub(crate) fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files = sources.into_iter().map(|(path, text)| {
            let module = path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
            File { module, names: Names::read(text) }
        });
        let files: Vec<_> = files.collect();
        let mut exports = BTreeMap::new();
        for root in files.iter().filter(|file| file.module.is_empty()) {
            for path in &root.names.paths {
                if let [module, .., name] = path.segments.as_slice() {
                    exports.insert(name.clone(), module.clone());
                }
            }
        }
        Self { files, exports }
    }

    /// All files, the root among them.
    pub(crate) fn all_files(&self) -> &[File] {
        &self.files
    }

    /// The files of all modules but the root.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| !file.module.is_empty())
    }

    /// Which top-level modules use which others.
    ///
    /// # Errors
    /// Returns a path that leads to no module and to nothing that the root re-exports.
    pub(crate) fn uses(&self) -> Result<Uses, String> {
        let mut uses: Uses = self.files().map(|file| (file.module[0].clone(), BTreeSet::new())).collect();
        let modules: BTreeSet<_> = uses.keys().cloned().collect();
        for file in self.files() {
            for name in file.names.paths.iter().filter_map(|path| file.at_root(&path.segments, path.inline)) {
                let module = self.exports.get(name).map_or(name, String::as_str);
                if !modules.contains(module) {
                    return Err(format!("`{}` names `crate::{name}`, which is not a module", file.module.join("::")));
                }
                if module != file.module[0] {
                    uses.entry(file.module[0].clone()).or_default().insert(module.to_owned());
                }
            }
        }
        Ok(uses)
    }
}

impl File {
    /// The segment that a path takes from the crate's root; none if it does not lead there.
    fn at_root<'a>(&self, segments: &'a [String], inline: usize) -> Option<&'a str> {
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let leads_to_root = segments[0] == "crate" || supers == self.module.len() + inline;
        leads_to_root.then(|| segments.get(supers.max(1)).map(String::as_str)).flatten()
    }

    /// Whether the file belongs to a module, or to a module within it.
    pub(crate) fn is_within(&self, module: &str) -> bool {
        let path = self.module.join("::");
        path == module || path.starts_with(&format!("{module}::"))
    }
}

/// The shortest cycle: modules of which each uses the next, and the last the first.
pub(crate) fn cycle(uses: &Uses) -> Option<Vec<&str>> {
    uses.keys().filter_map(|start| way_back(uses, start)).min_by_key(Vec::len)
}

/// Says what is wrong with a cycle.
pub(crate) fn in_words(cycle: &[&str]) -> String {
    let Some(first) = cycle.first() else { return String::new() };
    let links = cycle.iter().skip(1).chain([first]).map(|module| format!("uses `{module}`"));
    format!("`{first}` {}", links.collect::<Vec<_>>().join(", which "))
}

/// The shortest way from a module back to itself.
fn way_back<'a>(uses: &'a Uses, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in uses.get(*way.last()?)? {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                let mut longer = way.clone();
                longer.push(next);
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Lists the Rust files in a folder and below.
pub(crate) fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = ("lib", "mod a; mod b; mod c; pub use b::Thing;");

    fn cycle_of(files: &[(&str, &str)]) -> Option<String> {
        let tree = Tree::new([ROOT].into_iter().chain(files.iter().copied()));
        let uses = tree.uses().unwrap();
        cycle(&uses).map(|cycle| in_words(&cycle))
    }

    #[test]
    fn a_cycle_is_found_however_it_is_written() {
        for files in [
            [("a", "use crate::b::X;"), ("b", "fn f() { crate::a::g() }"), ("c", "")],
            [("a", "use crate::{c, b};"), ("b/inner", "use crate::{c::{d, e}, a};"), ("c", "")],
            [("a", "use super::b;"), ("b/inner", "use super::super::a;"), ("c", "")],
            [("a/deep/er", "fn f() -> crate::Thing {}"), ("b", "mod m { use super::super::a::X; }"), ("c", "")],
        ] {
            assert_eq!(cycle_of(&files).as_deref(), Some("`a` uses `b`, which uses `a`"), "{files:?}");
        }
        let files = [("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::a;")];
        assert_eq!(cycle_of(&files).as_deref(), Some("`a` uses `b`, which uses `c`, which uses `a`"));
    }

    #[test]
    fn modules_without_a_cycle_pass() {
        for files in [
            [("a", "use crate::{b, c};"), ("b", "use crate::c;"), ("c", "")],
            [("a", "use crate::b;"), ("b", "mod inner; use inner::X;"), ("b/inner", "use super::Y; use crate::b::Z;")],
            [("a", "use crate::b;"), ("b", "#[cfg(test)] mod tests { use crate::a; }"), ("c", "// crate::a::X")],
        ] {
            assert_eq!(cycle_of(&files), None, "{files:?}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_an_error() {
        let tree = Tree::new([ROOT, ("a", "use crate::gone::X;")]);
        assert!(tree.uses().is_err_and(|error| error.contains("`a` names `crate::gone`")));
    }

    #[test]
    fn a_file_belongs_to_its_module_and_to_those_around_it() {
        let file = File { module: vec!["inbox".to_owned(), "keys".to_owned()], names: Names::default() };
        assert!(file.is_within("inbox") && file.is_within("inbox::keys"));
        assert!(!file.is_within("inbox::key") && !file.is_within("in"));
    }
}
