//! Runs the golden vectors through the filter without a real host: natively, and as WebAssembly
//! under Node.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};

use envelope::{
    Timestamp,
    filter_settings::Settings,
    headers::{Judgement, Mark},
    vectors::{self, Accepted, NOW, Rejected, Vector},
};
use filter::request::{Begun, Counted, Host, RequestFilter, Step};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A host that records the filter's calls.
struct Recorder {
    headers: RefCell<Vec<(String, Vec<u8>)>>,
    body: RefCell<Vec<u8>>,
    replies: RefCell<Vec<(u16, Rejected)>>,
    counted: Cell<usize>,
    superseded: Cell<bool>,
}

impl Recorder {
    fn new(vector: &Vector) -> Self {
        let pseudo = [(":method", &vector.method), (":path", &vector.path)];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.clone().into_bytes()));
        let regular = vector.headers().map(|(name, value)| (name.to_owned(), value));
        Self {
            headers: RefCell::new(pseudo.into_iter().chain(regular).collect()),
            body: RefCell::default(),
            replies: RefCell::default(),
            counted: Cell::new(0),
            superseded: Cell::new(false),
        }
    }

    fn values(&self, wanted: &str) -> Vec<String> {
        let headers = self.headers.borrow();
        let values = headers.iter().filter(|(name, _)| name == wanted);
        values.map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect()
    }
}

impl Host for Recorder {
    fn request_headers(&self) -> Vec<u8> {
        let headers = self.headers.borrow();
        let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        let lengths = headers.iter().flat_map(|(name, value)| [number(name.len()), number(value.len())]);
        let texts = headers.iter().flat_map(|(name, value)| [name.as_bytes(), b"\0", value, b"\0"]);
        [number(headers.len())].into_iter().chain(lengths).flatten().chain(texts.flatten().copied()).collect()
    }

    fn request_body(&self) -> Vec<u8> {
        self.body.borrow().clone()
    }

    fn add_request_header(&self, name: &str, value: &[u8]) {
        self.headers.borrow_mut().push((name.to_owned(), value.to_vec()));
    }

    fn replace_request_header(&self, name: &str, value: Option<&[u8]>) {
        let mut headers = self.headers.borrow_mut();
        headers.retain(|(existing, _)| existing != name);
        headers.extend(value.map(|value| (name.to_owned(), value.to_vec())));
    }

    fn reply(&self, status: u16, _: &[(&str, &str)], body: &[u8]) {
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(problem["status"], status);
        let text = |name: &str| problem.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        self.replies.borrow_mut().push((status, Rejected { code: text("code").unwrap(), pointer: text("pointer") }));
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn count(&self, counted: Counted) {
        match counted {
            Counted::Superseded => self.superseded.set(true),
            _ => self.counted.set(self.counted.get() + 1),
        }
    }

    fn begin(&self) -> Option<Begun> {
        None
    }

    fn end(&self, _: Begun, _: usize) {}
}

fn settings(vector: &Vector) -> Settings {
    let json = serde_json::json!({"build": "b1", "proof": "0123456789abcdef", "policy": vector.policy});
    Settings::parse(json.to_string().as_bytes()).unwrap()
}

/// Sends a vector with its body in pieces of `piece` bytes, ended by trailers or by the last piece.
fn play(vector: &Vector, piece: usize, ends_with_trailers: bool) -> (Result<Accepted, Rejected>, Recorder) {
    let settings = settings(vector);
    let host = Recorder::new(vector);
    let body = vector.body();
    let mut filter = RequestFilter::default();
    let mut step = filter.on_headers(body.is_empty() && !ends_with_trailers, &settings, &host);
    for chunk in body.chunks(piece) {
        assert!(step == Step::Pause, "{}: forwarded before the end", vector.name);
        host.body.borrow_mut().extend_from_slice(chunk);
        let arrived = host.body.borrow().len();
        if !host.replies.borrow().is_empty() {
            break;
        }
        step = filter.on_body(arrived, arrived == body.len() && !ends_with_trailers, &settings, &host);
    }
    if ends_with_trailers && host.replies.borrow().is_empty() {
        step = filter.on_trailers(&settings, &host);
    }
    assert_eq!(host.counted.get(), 1, "{}: judged once", vector.name);
    let rejection = host.replies.borrow().first().cloned();
    assert_eq!(rejection.is_some(), step == Step::Pause, "{}: held back if and only if rejected", vector.name);
    let verdict = match rejection {
        Some((_, rejected)) => Err(rejected),
        None => {
            let judged = host.values("x-edge-judged").concat();
            let judgement = Judgement::read(judged.as_bytes());
            assert_eq!((judgement.proof, judgement.build), (&b"0123456789abcdef"[..], "b1"));
            // The judgement does not name the event: the backend reads it from the body.
            let accepted = vector.expected().unwrap();
            let mark = if accepted.quarantine { Mark::Quarantined } else { Mark::Accepted };
            assert_eq!(judgement.mark, mark, "{}", vector.name);
            assert_eq!(host.superseded.get(), accepted.superseded, "{}", vector.name);
            Ok(accepted)
        }
    };
    (verdict, host)
}

#[test]
fn every_vector_gets_its_verdict_however_its_body_arrives() {
    for vector in vectors::all().unwrap() {
        for (piece, ends_with_trailers) in [(usize::MAX, false), (usize::MAX, true), (7, false), (7, true)] {
            let (verdict, host) = play(&vector, piece, ends_with_trailers);
            assert_eq!(verdict, vector.expected(), "{} in pieces of {piece}", vector.name);
            assert!(host.replies.borrow().len() <= 1, "{}: answered twice", vector.name);
        }
    }
}

#[test]
fn a_request_that_passes_has_one_reserved_header_and_none_from_the_client() {
    for vector in vectors::all().unwrap().iter().filter(|vector| vector.expected().is_ok()) {
        let (_, host) = play(vector, usize::MAX, false);
        let headers = host.headers.borrow();
        let reserved: Vec<_> =
            headers.iter().map(|(name, _)| name).filter(|name| name.starts_with("x-edge-")).collect();
        assert_eq!(reserved, ["x-edge-judged"], "{}", vector.name);
    }
}

#[test]
fn a_token_is_removed_from_the_path_whether_it_is_valid_or_not() {
    let is_token = |vector: &Vector| {
        let authenticity = &vector.policy["authenticity"];
        [&authenticity["kind"], &authenticity["or"]["kind"]].contains(&&"path_token".into())
    };
    let vectors: Vec<_> = vectors::all().unwrap().into_iter().filter(is_token).collect();
    assert!(vectors.len() > 5);
    for vector in vectors {
        let (_, host) = play(&vector, usize::MAX, false);
        assert!(!host.values(":path").concat().contains("token"), "{}", vector.name);
    }
}

#[test]
fn in_shadow_mode_every_request_passes_with_the_code_of_its_rejection() {
    for mut vector in vectors::all().unwrap() {
        vector.policy["mode"] = "shadow".into();
        let settings = settings(&vector);
        let host = Recorder::new(&vector);
        let body = vector.body();
        let mut filter = RequestFilter::default();
        filter.on_headers(body.is_empty(), &settings, &host);
        host.body.replace(body.clone());
        for half in [body.len() / 2, body.len()] {
            filter.on_body(half, half == body.len(), &settings, &host);
        }
        let judged = host.values("x-edge-judged").concat();
        let mark = Judgement::read(judged.as_bytes()).mark;
        match vector.expected() {
            Err(rejected) => assert_eq!(mark, Mark::Shadowed(&rejected.code), "{}", vector.name),
            Ok(_) => assert!(!matches!(mark, Mark::Shadowed(_)), "{}", vector.name),
        }
        assert!(host.replies.borrow().is_empty() && host.counted.get() == 1, "{}", vector.name);
    }
}

#[test]
fn a_body_that_is_too_large_is_rejected_while_it_arrives() {
    let vectors = vectors::all().unwrap();
    let vector = vectors.iter().find(|vector| vector.name == "body far too large").unwrap();
    let (_, host) = play(vector, 1_000, false);
    assert!(host.body.borrow().len() < 20_000, "{} bytes were buffered", host.body.borrow().len());
}

#[test]
fn the_path_at_which_guardctl_asks_the_backend_stays_as_it_is_under_every_policy() {
    let vectors = vectors::all().unwrap();
    let mut vector = vectors.into_iter().find(|vector| vector.expected().is_ok()).unwrap();
    vector.path = "/-/guardctl/prove".to_owned();
    vector.policy = serde_json::json!({
        "path": "/", "authenticity": {"kind": "path_token", "tokens": ["token-0123456789"]},
    });
    let settings = settings(&vector);
    let host = Recorder::new(&vector);
    RequestFilter::default().on_headers(false, &settings, &host);
    let judged = host.values("x-edge-judged").concat();
    assert_eq!(Judgement::read(judged.as_bytes()).mark, Mark::Probe);
    // With another path Envoy would select the route again, and send the request to the backend.
    assert_eq!(host.values(":path"), ["/-/guardctl/prove"]);
}
