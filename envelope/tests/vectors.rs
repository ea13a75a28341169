//! Runs the golden vectors natively.

use std::collections::HashSet;

use envelope::{Code, EventName, vectors};

#[test]
fn every_vector_gets_its_expected_verdict() {
    for vector in vectors::all().unwrap() {
        assert_eq!(vector.decided(), vector.expected(), "{}", vector.name);
    }
}

#[test]
fn the_vectors_cover_every_code_and_every_event() {
    let vectors = vectors::all().unwrap();
    let names: HashSet<_> = vectors.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), vectors.len(), "two vectors have the same name");

    let verdicts: Vec<_> = vectors.iter().map(vectors::Vector::expected).collect();
    for code in Code::ALL {
        let named = |verdict: &Result<_, vectors::Rejected>| {
            verdict.as_ref().is_err_and(|rejected| rejected.code == code.as_str())
        };
        assert!(verdicts.iter().any(named), "no vector is rejected with {}", code.as_str());
    }
    for event in EventName::all() {
        let named = |verdict: &Result<vectors::Accepted, _>| {
            verdict.as_ref().is_ok_and(|accepted| accepted.event == event.as_str())
        };
        assert!(verdicts.iter().any(named), "no vector is accepted as {event}");
    }
}
