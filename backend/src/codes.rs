//! The codes that a dead letter can have, and what they mean, as docs/OPERATIONS.md says it.

/// A table with the columns code, meaning and what to do.
const TABLE: &str = include_str!("codes.md");

/// Returns all codes. A custom handler has codes of its own.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    rows().flat_map(|(codes, _, _)| codes)
}

/// Returns what a code means, and what to do.
pub(crate) fn explain(code: &str) -> Option<(&'static str, &'static str)> {
    rows().find_map(|(mut codes, meaning, advice)| codes.any(|known| known == code).then_some((meaning, advice)))
}

/// Returns the codes of each row, their meaning, and what to do.
fn rows() -> impl Iterator<Item = (impl Iterator<Item = &'static str>, &'static str, &'static str)> {
    TABLE.lines().filter_map(|row| {
        let (codes, rest) = row.strip_prefix("| `")?.split_once("` | ")?;
        let (meaning, advice) = rest.strip_suffix(" |")?.split_once(" | ")?;
        Some((codes.split("`, `"), meaning, advice))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Replaces each link by its text.
    fn without_links(text: &str) -> String {
        let mut pieces = text.split("](");
        let first = pieces.next().unwrap_or_default().to_owned();
        let text = pieces.fold(first, |text, piece| text + piece.split_once(')').map_or("", |(_, rest)| rest));
        text.replace('[', "")
    }

    #[test]
    fn the_table_says_the_same_as_the_documentation() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
        let page = fs::read_to_string(page).unwrap();
        let (_, section) = page.split_once("### Retries and dead letters\n").unwrap();
        let rows = section.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
        let rows = rows.filter_map(|row| {
            let [code, then, rest] = row.splitn(3, " | ").collect::<Vec<_>>().try_into().unwrap();
            // An event that only waits never becomes a dead letter.
            (then != "wait").then(|| without_links(&format!("{code} | {rest}")))
        });
        let expected: Vec<_> = rows.collect();
        assert!(expected.len() > 20, "{expected:?}");
        assert_eq!(TABLE.lines().skip(2).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_code_of_a_row_is_explained() {
        for (code, word) in [("sink_rejected", "2xx"), ("empty_body", "entry"), ("unknown_event", "entry")] {
            assert!(explain(code).unwrap().0.contains(word), "{code}");
        }
        assert!(all().count() > TABLE.lines().count() && all().any(|code| code == "empty_body"));
        for code in ["", "code", "sink", "of_my_own", "api_busy"] {
            assert_eq!(explain(code), None, "{code}");
        }
    }
}
