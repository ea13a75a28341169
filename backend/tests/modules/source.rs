//! Reads as much of Rust's syntax as it takes to see which paths a file names.

use std::{iter::Peekable, str::Chars};

/// One piece of source text. Comments, lifetimes and characters are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// The content of a string literal, escapes as written.
    Text(String),
    /// `::`
    Separator,
    /// Any other character.
    Sign(char),
}

/// What a file names, outside its tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Paths of two or more segments, as written: `use a::{b, c::d}` is `a::b` and `a::c::d`. Paths
    /// of a single one only after `use`.
    pub(crate) paths: Vec<Path>,
    /// String literals.
    pub(crate) texts: Vec<String>,
}

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// The segments. A glob ends in `*`.
    pub(crate) segments: Vec<String>,
    /// How many inline modules of the file enclose the path.
    pub(crate) inline: usize,
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

impl Names {
    /// Reads a file's text.
    pub(crate) fn read(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut names = Self::default();
        let mut blocks = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                Token::Word(_) if is_followed_by_separator(&tokens, at) => {
                    let inline = blocks.iter().filter(|is_module| **is_module).count();
                    let mut found = Vec::new();
                    at = read_tree(&tokens, at, &[], &mut found);
                    names.paths.extend(found.into_iter().map(|segments| Path { segments, inline }));
                    continue;
                }
                // `use a;` or `use a as b;`, after which `b::c` would not show the crate.
                Token::Word(word) if word == "use" => {
                    if let Some(Token::Word(name)) = tokens.get(at + 1)
                        && !is_followed_by_separator(&tokens, at + 1)
                    {
                        names.paths.push(Path { segments: vec![name.clone()], inline: 0 });
                    }
                }
                Token::Text(text) => names.texts.push(text.clone()),
                Token::Sign('{') => blocks.push(at >= 2 && tokens[at - 2].is_word("mod")),
                Token::Sign('}') => drop(blocks.pop()),
                _ => {}
            }
            at += 1;
        }
        names
    }
}

fn is_followed_by_separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1) == Some(&Token::Separator)
}

/// Reads the path, or the group of paths, that begins at `at`. Returns where the next token begins.
fn read_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => segments.push(word.clone()),
            Some(Token::Sign('*')) => segments.push("*".to_owned()),
            Some(Token::Sign('{')) => return read_group(tokens, at + 1, &segments, found),
            // A generic argument, as in `Vec::<u8>`.
            _ => break,
        }
        at += 1;
        if tokens.get(at) != Some(&Token::Separator) {
            break;
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| token.is_word("as")) {
        at += 2;
    }
    found.push(segments);
    at
}

/// Reads the paths between braces.
fn read_group(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at) {
            None => return at,
            Some(Token::Sign('}')) => return at + 1,
            Some(Token::Sign(',')) => at += 1,
            Some(_) => {
                let next = read_tree(tokens, at, prefix, found);
                // Never stuck, whatever the text is.
                at = next.max(at + 1);
            }
        }
    }
}

/// Splits a file's text into tokens, without its tests.
pub(crate) fn tokens_without_tests(text: &str) -> Vec<Token> {
    without_tests(&tokens(text))
}

/// Leaves out modules that are marked `#[cfg(test)]`: tests may use whatever uses their module.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mark = tokens_of_test_mark();
    let mut left = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&mark) {
            at = end_of_item(tokens, at + mark.len());
        } else {
            left.push(tokens[at].clone());
            at += 1;
        }
    }
    left
}

fn tokens_of_test_mark() -> Vec<Token> {
    tokens("#[cfg(test)]")
}

/// The place after the item that begins at `at`: after its semicolon or its block.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') if depth <= 1 => return at,
            Token::Sign('}') => depth -= 1,
            Token::Sign(';') if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

/// Splits a text into tokens.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '/' if rest.peek() == Some(&'/') => drop(rest.by_ref().find(|next| *next == '\n')),
            '/' if rest.peek() == Some(&'*') => skip_block_comment(&mut rest),
            '"' => found.push(Token::Text(quoted(&mut rest))),
            '\'' => skip_character_or_lifetime(&mut rest),
            ':' if rest.next_if_eq(&':').is_some() => found.push(Token::Separator),
            'r' if matches!(rest.peek(), Some('"' | '#')) => found.push(raw(&mut rest)),
            first if is_word(first) => {
                let mut word = String::from(first);
                while let Some(next) = rest.next_if(|next| is_word(*next)) {
                    word.push(next);
                }
                // `br"…"`, a raw byte string; `b"…"` needs nothing, since its text follows.
                let is_raw = word == "br" && matches!(rest.peek(), Some('"' | '#'));
                found.push(if is_raw { raw(&mut rest) } else { Token::Word(word) });
            }
            sign if sign.is_whitespace() => {}
            sign => found.push(Token::Sign(sign)),
        }
    }
    found
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn skip_block_comment(rest: &mut Peekable<Chars<'_>>) {
    let mut depth = 0_usize;
    let mut previous = '/';
    for character in rest {
        match (previous, character) {
            ('/', '*') => depth += 1,
            ('*', '/') if depth == 1 => return,
            ('*', '/') => depth -= 1,
            _ => {
                previous = character;
                continue;
            }
        }
        previous = ' ';
    }
}

/// The rest of a string literal, up to its closing quote.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(character) = rest.next() {
        match character {
            '"' => break,
            '\\' => {
                text.push(character);
                text.extend(rest.next());
            }
            other => text.push(other),
        }
    }
    text
}

/// The rest of a raw string literal after its `r`, or of a raw identifier.
fn raw(rest: &mut Peekable<Chars<'_>>) -> Token {
    let mut hashes = 0;
    while rest.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    let mut text = String::new();
    if rest.next_if_eq(&'"').is_none() {
        while let Some(next) = rest.next_if(|next| is_word(*next)) {
            text.push(next);
        }
        return Token::Word(text);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    for character in rest {
        text.push(character);
        if text.ends_with(&end) {
            text.truncate(text.len() - end.len());
            break;
        }
    }
    Token::Text(text)
}

/// Skips `'a'` or `'\''`, or only the quote of a lifetime, whose name is then read as a word.
fn skip_character_or_lifetime(rest: &mut Peekable<Chars<'_>>) {
    let mut ahead = rest.clone();
    let first = ahead.next();
    if first == Some('\\') {
        ahead.next();
        ahead.by_ref().find(|next| *next == '\'');
        *rest = ahead;
    } else if ahead.next() == Some('\'') {
        *rest = ahead;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Names::read(text).paths.into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn paths_are_read_wherever_they_are_written() {
        for (text, expected) in [
            ("use crate::a;", &["crate::a"][..]),
            (
                "use crate::{a, b::{self, C, d::E}, f as g};",
                &["crate::a", "crate::b::self", "crate::b::C", "crate::b::d::E", "crate::f"],
            ),
            ("use redis as client; client::cmd()", &["redis", "client::cmd"]),
            ("use {crate::a::*, std::io};", &["crate::a::*", "std::io"]),
            ("pub(crate) fn f(x: &crate::a::B<'_>) -> c::D<crate::e::F> {}", &["crate::a::B", "c::D", "crate::e::F"]),
            ("let x = Vec::<crate::a::B>::new();", &["Vec", "crate::a::B"]),
            ("crate::a::f(redis::cmd(\"SET\"))", &["crate::a::f", "redis::cmd"]),
            ("if x == crate::a::B { y }", &["crate::a::B"]),
            ("/// crate::a::B\n// crate::c\n/* crate::d /* crate::e */ crate::f */ g!(\"crate::h\")", &[]),
            (
                "f('\"', '\\'', 'x', r#\"crate::a \" crate::b\"#, br\"crate::c\", b\"crate::d\") crate::e::f",
                &["crate::e::f"],
            ),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use a::b; #[cfg(test)] mod tests { use c::d; fn f() { {} } } #[cfg(test)] mod x; use e::f;";
        assert_eq!(paths(text), ["a::b", "e::f"]);
    }

    #[test]
    fn inline_modules_are_counted() {
        let names =
            Names::read("use super::a; mod m { fn f() { super::b::c() } mod n { use super::d; } } use super::e;");
        let found: Vec<_> = names.paths.iter().map(|path| (path.segments[1].as_str(), path.inline)).collect();
        assert_eq!(found, [("a", 0), ("b", 1), ("d", 2), ("e", 0)]);
    }

    #[test]
    fn string_literals_are_kept() {
        let names = Names::read(r##"f("a\"b", r#"c"d"#); // "e""##);
        assert_eq!(names.texts, [r#"a\"b"#, r#"c"d"#]);
    }
}
