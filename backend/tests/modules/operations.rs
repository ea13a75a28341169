//! Keeps docs/OPERATIONS.md in step: it names every code, answer of the ingest, reason of Redis and
//! metric of the backend, and none that does not exist.

use std::{collections::BTreeSet, fs, path::Path};

use envelope::Code;

use crate::source::{Token, tokens_without_tests};

type Names = BTreeSet<String>;

const METRIC_PREFIX: &str = "truenroll_backend_";
/// Settings that begin like a code.
const SETTINGS: [&str; 2] = ["api_key", "api_key_file"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tokens of all files below a folder of the backend, or of one file.
fn source(path: &str) -> Vec<Token> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path);
    if path.is_file() {
        return tokens_without_tests(&fs::read_to_string(path).unwrap());
    }
    let files = crate::tree::rust_files(&path).unwrap();
    files.iter().flat_map(|file| tokens_without_tests(&fs::read_to_string(file).unwrap())).collect()
}

/// Finds the literals that follow `before`.
fn literals(tokens: &[Token], before: &str) -> Names {
    let before = crate::source::tokens(before);
    let is_before = |window: &&[Token]| window.starts_with(&before);
    let texts = tokens.windows(before.len() + 1).filter(is_before).filter_map(|window| match &window[before.len()] {
        Token::Text(text) => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

/// The codes that the Partner API's client, handlers, the sink and the worker give to a failed
/// attempt.
fn attempt_codes() -> Names {
    let mut codes = literals(&source("partner_api/error.rs"), "=>");
    codes.extend(literals(&source("sink/stream/error.rs"), "=>"));
    for path in ["handler.rs", "handler", "sink", "worker"] {
        let tokens = source(path);
        let built = crate::source::tokens("HandlerError { code");
        let taken_apart = crate::source::tokens("let HandlerError { code");
        let count = |wanted: &[Token]| tokens.windows(wanted.len()).filter(|window| *window == wanted).count();
        let literal = crate::source::tokens("HandlerError { code:");
        assert_eq!(
            count(&built) - count(&taken_apart),
            count(&literal),
            "{path}: write each code of a `HandlerError` as a literal, so that this test finds it"
        );
        codes.extend(literals(&tokens, "HandlerError { code:"));
    }
    codes
}

/// The names of the metrics, as Prometheus reads them.
fn metrics() -> Names {
    let tokens = source("telemetry/metrics.rs");
    let mut names = Names::new();
    for at in 2..tokens.len() {
        let is_registered = tokens[at..].starts_with(&crate::source::tokens("registered(registry,"));
        let (Token::Word(field), true) = (&tokens[at - 2], is_registered) else { continue };
        let Some(Token::Text(name)) = tokens[at..].iter().find(|token| matches!(token, Token::Text(_))) else {
            panic!("{field} has no name");
        };
        let suffix = if is_counter(&tokens, field) { "_total" } else { "" };
        names.insert(format!("{METRIC_PREFIX}{name}{suffix}"));
    }
    names
}

/// Returns whether a field is declared as a counter, or a family of them.
fn is_counter(tokens: &[Token], field: &str) -> bool {
    let declaration = crate::source::tokens(&format!("pub {field}:"));
    let at = tokens.windows(declaration.len()).position(|window| window == declaration);
    let at = at.unwrap_or_else(|| panic!("{field} is not declared")) + declaration.len();
    let is_end = |token: &&Token| matches!(token, Token::Word(word) if word == "pub") || **token == Token::Sign('}');
    let mut declared = tokens[at..].iter().take_while(|token| !is_end(token));
    declared.any(|token| matches!(token, Token::Word(word) if word == "Counter"))
}

/// The words of a text that consist of small letters and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_lowercase() && character != '_')
}

/// The names in backquotes in the first column of a section's tables that have this first heading.
fn named(page: &str, section: &str, heading: &str) -> Names {
    let lines = page.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with('#'));
    let mut names = Names::new();
    let mut previous = "";
    let mut is_wanted = false;
    for line in lines {
        let first = |line: &str| line.trim_start_matches("| ").split(" | ").next().unwrap_or_default().to_owned();
        if line.starts_with("|-") {
            is_wanted = first(previous) == heading;
        } else if is_wanted && line.starts_with('|') {
            let cell = first(line);
            let quoted = cell.split('`').skip(1).step_by(2).filter(|name| words(name).count() == 1);
            names.extend(quoted.map(str::to_owned));
        } else {
            is_wanted = false;
        }
        previous = line;
    }
    names
}

/// The codes of rejections.
fn rejection_codes() -> Names {
    Code::ALL.iter().map(|code| code.as_str().to_owned()).collect()
}

/// The answers of the ingest that are not codes of rejections.
fn answers() -> Names {
    literals(&source("ingest/answer.rs"), "=>")
}

#[test]
fn the_page_names_every_code_of_a_rejection_and_no_other() {
    assert_eq!(named(&read("docs/OPERATIONS.md"), "### Rejections at the edge", "code"), rejection_codes());
}

#[test]
fn the_page_names_every_code_of_an_attempt_and_no_other() {
    let page = read("docs/OPERATIONS.md");
    let codes = attempt_codes();
    for code in ["api_busy", "sink_rejected", "not_ready", "unknown_status", "panic"] {
        assert!(codes.contains(code), "`{code}` is not found in the sources: {codes:?}");
    }
    // A stored body that is not an event has the code of its rejection.
    let rejections = rejection_codes();
    let mut named = named(&page, "### Retries and dead letters", "code");
    assert!(named.contains(Code::MalformedJson.as_str()), "{named:?}");
    named.retain(|code| !rejections.contains(code));
    assert_eq!(named, codes);
    for word in words(&page).filter(|word| word.starts_with("api_") || word.starts_with("sink_")) {
        assert!(codes.contains(word) || SETTINGS.contains(&word), "the page names `{word}`");
    }
}

#[test]
fn the_page_names_every_answer_of_the_ingest_and_no_other() {
    assert!(answers().contains("conflict"), "{:?}", answers());
    assert_eq!(named(&read("docs/OPERATIONS.md"), "### Answers of the backend", "answer"), answers());
}

#[test]
fn the_labels_in_the_page_have_values_that_exist() {
    let page = read("docs/OPERATIONS.md");
    let codes = &attempt_codes() | &rejection_codes();
    for (label, known) in [("code=\"", codes), ("answer=\"", &answers() | &rejection_codes())] {
        for value in page.split(label).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(known.contains(value), "the page names {label}{value}\"");
        }
    }
}

#[test]
fn the_labels_in_alerts_and_dashboards_have_values_that_exist() {
    let mut codes = &attempt_codes() | &rejection_codes();
    codes.extend(["ok", "accepted", "quarantined", "uncounted"].map(str::to_owned));
    let mut found = Names::new();
    for file in ["alerts.yaml", "operations.json", "edge.json"] {
        let text = read(&format!("deploy/monitoring/{file}")).replace('\\', "");
        for (label, known) in [("code", &codes), ("answer", &answers())] {
            let values = ["=\"", "!=\"", "=~\"", "!~\""].map(|operator| format!("{label}{operator}"));
            let values =
                values.iter().flat_map(|start| text.split(start).skip(1)).filter_map(|rest| rest.split('"').next());
            for value in values.flat_map(|values| values.split('|')) {
                assert!(known.contains(value), "{file} names {label}=\"{value}\"");
                found.insert(value.to_owned());
            }
        }
    }
    assert!(found.contains("unproven") && found.contains("api_forbidden") && found.contains("not_found"), "{found:?}");
}

#[test]
fn the_page_names_every_reason_of_redis_and_no_other() {
    let named = named(&read("docs/OPERATIONS.md"), "### Answers of the backend", "`reason`");
    assert_eq!(named, literals(&source("inbox/error.rs"), "=>"));
}

#[test]
fn the_page_names_every_metric_and_no_other() {
    let page = read("docs/OPERATIONS.md");
    let named: Names = words(&page).filter(|word| word.starts_with(METRIC_PREFIX)).map(str::to_owned).collect();
    assert!(named.contains("truenroll_backend_ingest_total"), "{named:?}");
    assert_eq!(named, metrics());
}

#[test]
fn names_are_read_from_the_first_column_of_the_right_tables() {
    let page = "## A\n\n| code | x |\n|---|---|\n| `a_b`, `c` | `d` |\n| `/-/` | |\n\n| other |\n|---|\n| `e` |\n
        ## B\n| code |\n|---|\n| `f` |\n";
    assert_eq!(named(page, "## A", "code"), ["a_b", "c"].map(str::to_owned).into());
    assert_eq!(named(page, "## C", "code"), Names::new());
}
