//! Compares the JSON reader with serde_json: both must accept and reject the same documents, and
//! read the same values.
//!
//! The documents come from the golden vectors' bodies and from a grammar, and are then damaged at
//! random. A failure prints the seed. `ENVELOPE_FUZZ_ITERATIONS` and `ENVELOPE_FUZZ_SEED` set the
//! number of documents and the seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::env;

use envelope::vectors;
use fastrand::Rng;

mod reference;

/// Fragments to insert into documents. Each is a boundary case of a rule.
const FRAGMENTS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"\\ude00",
    b"\\u0000",
    b"\\n",
    b"\\x",
    b"null",
    b"true",
    b"false",
    b"nul",
    b"0",
    b"-",
    b"01",
    b"1.5",
    b"1e5",
    b"-0.0e-0",
    b".",
    b"e",
    b" ",
    b"\t",
    b"\r\n",
    b"\x00",
    b"\x1f",
    b"\x7f",
    b"\x80",
    b"\xc3",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80",
    b"\"eventName\"",
    b"\"payload\"",
    b"\"caseId\"",
    b"\"externalId\"",
    b"\"occurredAt\"",
    b"\"audience\"",
    b"\"event\\u004eame\"",
    b"\"case.extraction.failed\"",
    b"\"2025-06-22T10:30:00Z\"",
    b"/",
    b"'",
    b"\n",
];

#[test]
fn agrees_with_serde_json_on_whatever_comes() {
    let setting = |name: &str| env::var(name).ok().and_then(|value| value.parse().ok());
    let iterations = setting("ENVELOPE_FUZZ_ITERATIONS").unwrap_or(200_000);
    let seed = setting("ENVELOPE_FUZZ_SEED").unwrap_or(1);
    let mut rng = Rng::with_seed(seed);
    let bodies: Vec<_> = vectors::all().unwrap().iter().map(vectors::Vector::body).collect();
    let bodies: Vec<_> = bodies.into_iter().filter(|body| (1..2_000).contains(&body.len())).collect();
    let (mut accepted, mut malformed) = (0_u64, 0_u64);
    for iteration in 0..iterations {
        let mut body = if rng.bool() { bodies[rng.usize(..bodies.len())].clone() } else { document(&mut rng) };
        for _ in 0..rng.usize(..4) {
            damage(&mut body, &mut rng);
        }
        match reference::compare(&body) {
            Ok(true) => accepted += 1,
            Ok(false) => malformed += 1,
            Err(difference) => {
                panic!("seed {seed}, iteration {iteration}: {difference}\n{}", String::from_utf8_lossy(&body))
            }
        }
    }
    // Both verdicts must be common, or the comparison says little.
    assert!(accepted > iterations / 10 && malformed > iterations / 10, "{accepted} accepted, {malformed} malformed");
}

/// Returns a well-formed document, with the documented fields and random others.
fn document(rng: &mut Rng) -> Vec<u8> {
    let text = |rng: &mut Rng| {
        let characters = ["a", "é", "😀", "\\n", "\\\"", "\\u00e9", "\\ud83d\\ude00", "0", " "];
        let length = rng.usize(..5);
        let text: String = (0..length).map(|_| characters[rng.usize(..characters.len())]).collect();
        format!("\"{text}\"")
    };
    let mut members = vec![
        "\"eventName\":\"case.forensics.completed\"".to_owned(),
        format!(
            "\"payload\":{{\"caseId\":\"c-{}\",\"externalId\":{},\"occurredAt\":\"2025-06-22T10:30:00Z\"}}",
            rng.u8(..),
            if rng.bool() { "null".to_owned() } else { text(rng) }
        ),
    ];
    for _ in 0..rng.usize(..3) {
        let values = ["1", "-0.5e3", "[]", "{}", "[1,[2,{\"a\":null}]]", "true", "{\"eventName\":1,\"eventName\":2}"];
        members.push(format!("{}:{}", text(rng), values[rng.usize(..values.len())]));
    }
    rng.shuffle(&mut members);
    format!("{{{}}}", members.join(",")).into_bytes()
}

fn damage(body: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..=body.len());
    match rng.u8(..4) {
        0 => body.truncate(at),
        1 if at < body.len() => drop(body.remove(at)),
        2 if at < body.len() => body[at] = rng.u8(..),
        _ => {
            let fragment = FRAGMENTS[rng.usize(..FRAGMENTS.len())];
            body.splice(at..at, fragment.iter().copied());
        }
    }
}
