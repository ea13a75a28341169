//! Any header map and any body, in any pieces: the filter judges the request once, with the verdict
//! of `decide` on the whole request, and marks it only if it passes.
//!
//! The first byte of the input selects the policy and how the request ends. The next two bytes are
//! the length of the header map.
#![no_main]

use std::cell::{Cell, RefCell};

use envelope::{
    Head, Policy, Timestamp, Verdict,
    authenticity::Way,
    decide::{Passed, decide},
    filter_settings::Settings,
};
use filter::{
    pairs,
    request::{Begun, Counted, Host, RequestFilter, Step},
};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_unix(1_767_225_600);
const POLICIES: [&str; 4] = [
    "{}",
    r#"{"audience":"required","unknown_fields":"reject","unknown_events":"quarantine","max_body_bytes":200}"#,
    r#"{"authenticity":{"kind":"path_token","tokens":["0123456789abcdef"]},"disabled_features":["extraction"]}"#,
    r#"{"authenticity":{"kind":"standard_webhooks","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"or":{"kind":"path_token","tokens":["0123456789abcdef"]}}}"#,
];

#[derive(Default)]
struct Recorder {
    headers: Vec<u8>,
    body: RefCell<Vec<u8>>,
    added: Cell<usize>,
    replies: Cell<usize>,
    counted: RefCell<Vec<Counted>>,
}

impl Host for Recorder {
    fn request_headers(&self) -> Vec<u8> {
        self.headers.clone()
    }

    fn request_body(&self) -> Vec<u8> {
        self.body.borrow().clone()
    }

    fn add_request_header(&self, _: &str, _: &[u8]) {
        self.added.set(self.added.get() + 1);
    }

    fn replace_request_header(&self, _: &str, _: Option<&[u8]>) {}

    fn reply(&self, status: u16, _: &[(&str, &str)], body: &[u8]) {
        let problem: serde_json::Value = serde_json::from_slice(body).expect("a problem is JSON");
        assert_eq!(problem["status"], status);
        self.replies.set(self.replies.get() + 1);
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn count(&self, counted: Counted) {
        self.counted.borrow_mut().push(counted);
    }

    fn begin(&self) -> Option<Begun> {
        None
    }

    fn end(&self, _: Begun, _: usize) {}
}

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, low, high], rest)) = input.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (map, body) = rest.split_at(length);
    let policy = POLICIES[usize::from(choice % 4)];
    let json = format!(r#"{{"build":"b","proof":"0123456789abcdef","policy":{policy}}}"#);
    let settings = Settings::parse(json.as_bytes()).expect("the settings are valid");
    let host = Recorder { headers: map.to_vec(), ..Recorder::default() };
    let (ends_with_trailers, piece) = (choice & 4 != 0, usize::from(choice >> 3) + 1);

    let mut filter = RequestFilter::default();
    let mut step = filter.on_headers(body.is_empty() && !ends_with_trailers, &settings, &host);
    for chunk in body.chunks(piece * 16) {
        host.body.borrow_mut().extend_from_slice(chunk);
        let arrived = host.body.borrow().len();
        step = filter.on_body(arrived, arrived == body.len() && !ends_with_trailers, &settings, &host);
    }
    if ends_with_trailers {
        step = filter.on_trailers(&settings, &host);
    }

    let head = Head::read(pairs::read(map), &settings.policy);
    if [Policy::PROBE_PATH, Policy::PROVE_PATH].map(str::as_bytes).contains(&head.path()) {
        return assert_eq!(*host.counted.borrow(), [Counted::Probed]);
    }
    let whole = decide(&head, body, || NOW, &settings.policy);
    let expected = match &whole {
        Ok(Passed { verdict: Verdict::Accept(_), .. }) => Counted::Accepted,
        Ok(Passed { verdict: Verdict::Quarantine(_), .. }) => Counted::Quarantined,
        Err(rejection) => Counted::Rejected(rejection.code),
    };
    let is_superseded = matches!(whole, Ok(Passed { way: Way::Superseded, .. }));
    let expected: Vec<_> = is_superseded.then_some(Counted::Superseded).into_iter().chain([expected]).collect();
    assert_eq!(*host.counted.borrow(), expected);
    assert_eq!((host.added.get(), host.replies.get()), if whole.is_ok() { (1, 0) } else { (0, 1) });
    assert_eq!(step == Step::Continue, whole.is_ok());
});
