use serde_json::Value;

use super::*;

fn code(body: &[u8]) -> Option<Code> {
    scan(body, 8).err().map(|rejection| rejection.code)
}

/// Documents that test one rule each. serde_json decides which of them are well-formed.
const DOCUMENTS: &[&str] = &[
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "-0",
    "-1.5e+10",
    "1E5",
    "\"\"",
    " \t\r\n{ } \n",
    "[1,[2,{\"a\":[]}],{}]",
    r#"{"a":{"b":[1,2,{"c":null}]},"d":"e"}"#,
    r#""\u00e9\ud83d\ude00\n\/\\\"""#,
    r#"{"\u0061":1}"#,
    "{",
    "}",
    "[",
    "]",
    "{]",
    "[}",
    "{}{}",
    "{} x",
    "[1,]",
    "[,1]",
    "[1 2]",
    r#"{"a":1,}"#,
    r#"{"a"}"#,
    r#"{"a":}"#,
    r#"{a:1}"#,
    r#"{1:1}"#,
    "'a'",
    "nul",
    "nulll",
    "tru",
    "True",
    "01",
    "-",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "+1",
    "0x1",
    "NaN",
    "Infinity",
    "\"",
    "\"\\\"",
    r#""\x""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\ud83d""#,
    r#""\ude00""#,
    r#""\ud83d\u0041""#,
    r#""\ud83dx""#,
    "\"\t\"",
    "\"\u{1f}\"",
    "\"\u{7f}\"",
    "\u{feff}{}",
    "\u{a0}{}",
    "{}\0",
    "//\n{}",
    r#"{"a":1 /**/}"#,
    r#"[[[[[[[1]]]]]]]"#,
    r#"{"a":"b" "c":1}"#,
    r#"{"a":"b",,"c":1}"#,
    "[[],[[]],[{}]]",
    "[{}{}]",
];

#[test]
fn agrees_with_serde_json_on_what_is_well_formed() {
    for document in DOCUMENTS {
        let reference = serde_json::from_str::<Value>(document).is_ok();
        assert_eq!(scan(document.as_bytes(), 8).is_ok(), reference, "{document:?}");
    }
}

#[test]
fn every_prefix_of_a_document_is_malformed() {
    let document = r#"{"eventName":"a\u00e9","payload":{"caseId":[1.5e3,true,{"x":null}],"y":{}},"z":-0.1}"#;
    assert_eq!(code(document.as_bytes()), None);
    for length in 1..document.len() {
        assert_eq!(code(&document.as_bytes()[..length]), Some(Code::MalformedJson), "{length}");
    }
}

#[test]
fn invalid_utf8_is_malformed_everywhere() {
    for body in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xc3\":1}", b"\xef\xbb", b"{}\x80", b"{\"a\":\"\xed\xa0\x80\"}"] {
        assert_eq!(code(body), Some(Code::MalformedJson), "{body:?}");
    }
}

#[test]
fn documented_fields_are_found_even_if_their_names_are_escaped() {
    let body = r#"{"event\u004eame":"\u0061b","payload":{"\u0063aseId":"x","externalId":null,"occurredAt":7},"n":[]}"#;
    let fields = scan(body.as_bytes(), 8).unwrap();
    let Slot::Text(name) = fields.event_name else { panic!("{fields:?}") };
    assert_eq!(name.decode(), "ab");
    assert!(name.is("ab") && !name.is("a") && !name.is("abc"));
    assert_eq!(fields.payload, Slot::Object);
    assert!(matches!(fields.case_id, Slot::Text(id) if id.is("x")));
    assert_eq!((fields.external_id, fields.occurred_at), (Slot::Null, Slot::Other));
    assert_eq!((fields.audience, fields.unknown_in), (Slot::Absent, Some(Field::Root)));
}

#[test]
fn strings_decode_as_serde_json_decodes_them() {
    let raw = r#"\u00e9\ud83d\ude00\b\f\n\r\t\/\\\" \u0000 é😀"#;
    let body = format!("{{\"eventName\":\"{raw}\"}}");
    let fields = scan(body.as_bytes(), 8).unwrap();
    let Slot::Text(name) = fields.event_name else { panic!("{fields:?}") };
    assert_eq!(name.decode(), serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap());
}

#[test]
fn only_documented_fields_must_be_unique_within_their_object() {
    for (body, duplicate) in [
        (r#"{"eventName":1,"eventName":1}"#, Some(Field::EventName)),
        (r#"{"eventName":1,"\u0065ventName":1}"#, Some(Field::EventName)),
        (r#"{"payload":{},"payload":{}}"#, Some(Field::Payload)),
        (r#"{"payload":1,"payload":{}}"#, Some(Field::Payload)),
        (r#"{"payload":{"caseId":1,"caseId":null}}"#, Some(Field::CaseId)),
        (r#"{"payload":{"audience":1,"audience":1}}"#, Some(Field::PayloadAudience)),
        (r#"{"audience":1,"payload":{"audience":1}}"#, None),
        (r#"{"x":1,"x":1,"caseId":1,"caseId":1}"#, None),
        (r#"{"x":{"eventName":1,"eventName":1}}"#, None),
    ] {
        let rejection = scan(body.as_bytes(), 8).err();
        assert_eq!(rejection.and_then(|rejection| rejection.field), duplicate, "{body}");
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(code(nested(8).as_bytes()), None);
        assert_eq!(code(nested(9).as_bytes()), Some(Code::TooDeep));
        assert!(scan(nested(64).as_bytes(), 64).is_ok());
    }
    assert_eq!(code("[".repeat(1_000_000).as_bytes()), Some(Code::TooDeep));
}
