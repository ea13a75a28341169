//! Reads the sources. Keeps the modules of each crate free of cycles, the invariants of
//! ARCHITECTURE.md about which module names what, and docs/OPERATIONS.md in step with the codes and
//! metrics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

mod operations;
mod source;
mod tree;

use tree::Tree;

/// Something that only some modules of a crate may name.
struct Rule {
    /// The crate's folder.
    folder: &'static str,
    /// The beginning of a path.
    path: &'static [&'static str],
    /// The modules that may name it.
    only: &'static [&'static str],
}

const CRATES: [&str; 6] = ["backend", "envelope", "envoy", "filter", "tests", "tests/simulator"];

const RULES: [Rule; 16] = [
    Rule { folder: "backend", path: &["redis"], only: &["inbox", "sink::stream"] },
    Rule { folder: "backend", path: &["reqwest"], only: &["http_client", "partner_api", "sink"] },
    Rule { folder: "backend", path: &["opentelemetry"], only: &["traces"] },
    // The core works without a console.
    Rule { folder: "backend", path: &["crate", "console"], only: &["cli", "console", "server"] },
    Rule { folder: "filter", path: &["proxy_wasm"], only: &["host", "abi"] },
    // `envelope` does no I/O and reads no clock.
    Rule { folder: "envelope", path: &["std", "env"], only: &[] },
    Rule { folder: "envelope", path: &["std", "fs"], only: &[] },
    Rule { folder: "envelope", path: &["std", "io"], only: &[] },
    Rule { folder: "envelope", path: &["std", "net"], only: &[] },
    Rule { folder: "envelope", path: &["std", "os"], only: &[] },
    Rule { folder: "envelope", path: &["std", "process"], only: &[] },
    Rule { folder: "envelope", path: &["std", "thread"], only: &[] },
    Rule { folder: "envelope", path: &["std", "time", "Instant"], only: &[] },
    Rule { folder: "envelope", path: &["std", "time", "SystemTime"], only: &[] },
    Rule { folder: "envelope", path: &["std", "time", "UNIX_EPOCH"], only: &[] },
    Rule { folder: "envelope", path: &["tokio"], only: &[] },
];

fn read(folder: &str) -> Tree {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src");
    Tree::read(&src).unwrap_or_else(|error| panic!("{}: {error}", src.display()))
}

/// Lists the files that break a rule.
fn offenders(tree: &Tree, rule: &Rule) -> Vec<String> {
    let is_named = |segments: &[String]| segments.iter().zip(rule.path).all(|(own, named)| own == named);
    let names_it = |segments: &[String]| segments.len() >= rule.path.len() && is_named(segments);
    let mut found = Vec::new();
    for file in tree.all_files() {
        let may = rule.only.iter().any(|module| file.is_within(module));
        if !may && file.names.paths.iter().any(|path| names_it(&path.segments)) {
            found.push(if file.module.is_empty() { "lib".to_owned() } else { file.module.join("::") });
        }
    }
    found
}

/// Lists the files other than `inbox::keys` that spell a key of Redis.
fn spellers(tree: &Tree) -> Vec<String> {
    let is_keys = |file: &&tree::File| file.is_within("inbox::keys");
    // In `inbox::keys` a key is written "{}:seen:{event_key}", or "{{{}}}:{name}" with a name.
    let kind = |text: &str| Some(text.split_once("}:")?.1.split([':', '{']).next()?.to_owned());
    let texts = tree.files().filter(is_keys).flat_map(|file| &file.names.texts);
    let kinds: Vec<_> = texts.filter_map(|text| kind(text)).filter(|kind| !kind.is_empty()).collect();
    assert!(kinds.len() >= 6, "the kinds of keys are not found in `inbox::keys`: {kinds:?}");
    let spells = |text: &String| kinds.iter().any(|kind| text.contains(&format!("}}:{kind}")));
    let others = tree.files().filter(|file| !is_keys(file) && file.names.texts.iter().any(spells));
    others.map(|file| file.module.join("::")).collect()
}

#[test]
fn modules_do_not_use_each_other_in_a_cycle() {
    for folder in CRATES {
        let uses = read(folder).uses().unwrap_or_else(|error| panic!("{folder}: {error}"));
        assert!(uses.len() > 2, "{folder}: no modules were read");
        if let Some(cycle) = tree::cycle(&uses) {
            panic!("{folder}: {}", tree::in_words(&cycle));
        }
    }
}

#[test]
fn only_the_modules_of_architecture_md_name_clients_hosts_and_clocks() {
    for rule in &RULES {
        let offenders = offenders(&read(rule.folder), rule);
        let path = rule.path.join("::");
        assert!(offenders.is_empty(), "{}: {offenders:?} name `{path}`; only {:?} may", rule.folder, rule.only);
    }
}

#[test]
fn only_the_keys_module_spells_keys() {
    assert_eq!(spellers(&read("backend")), [""; 0], "ask `inbox::keys` for the key instead");
}

#[test]
fn a_broken_rule_is_noticed() {
    let rule = Rule { folder: "", path: &["std", "fs"], only: &["files"] };
    let tree = Tree::new([
        ("lib", "mod files; mod a; mod b; mod c; use std::fs::read;"),
        ("files/deep", "use std::fs;"),
        ("a", "use std::{fs::File, io};"),
        ("b/inner", "fn f() { std::fs::read(x) }"),
        ("c", "use std::io; // std::fs"),
    ]);
    assert_eq!(offenders(&tree, &rule), ["lib", "a", "b::inner"]);
    let rule = Rule { folder: "", path: &["redis"], only: &["inbox"] };
    let tree = Tree::new([("lib", ""), ("inbox/deep", "use redis;"), ("a", "use redis as client; client::cmd()")]);
    assert_eq!(offenders(&tree, &rule), ["a"]);
    let keys = r#"f("{}:seen:{k}", "{}:a", "{}:b", "{}:c", "{}:d", "{}:e", "{{{}}}:{name}")"#;
    let tree = Tree::new([("inbox/keys", keys), ("a", r#"f("{}:{}", "x:seen")"#), ("b", r#"f("{tag}:seen:{x}")"#)]);
    assert_eq!(spellers(&tree), ["b"]);
}
