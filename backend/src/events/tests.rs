use super::*;

#[test]
fn an_event_key_names_the_event_and_its_case() {
    for (key, expected) in [
        ("case.extraction.completed:c1:2025-06-22T10:30:00Z", Some(("case.extraction.completed", "c1"))),
        ("unknown.0123456789abcdef:c_1-x:2025-06-22T10:30:00Z", Some(("unknown.0123456789abcdef", "c_1-x"))),
        ("c1", None),
        ("case.extraction.completed:c1", None),
        ("a:b c:d", None),
        ("", None),
    ] {
        assert_eq!(parts(key), expected, "{key:?}");
    }
}
