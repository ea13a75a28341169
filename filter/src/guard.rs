//! One request's way through the filter: wait for all of it, judge it once, answer at most once.

use envelope::{
    Code, EventKey, Head, Refusal, Timestamp, decide,
    head::Audience,
    headers::{self, RESERVED_PREFIX},
    problem::MEDIA_TYPE,
};

use crate::settings::Settings;

/// What a guard needs of the host that it runs in.
pub trait Host {
    /// All request headers, pseudo-headers among them, names in lower case.
    fn request_headers(&self) -> Vec<(String, Vec<u8>)>;
    /// The request's body as far as it has arrived.
    fn request_body(&self) -> Vec<u8>;
    /// Replaces every request header of that name by one, or by none.
    fn replace_request_header(&self, name: &str, value: Option<&[u8]>);
    /// Answers the request here and now.
    fn reply(&self, status: u16, headers: &[(&str, &str)], body: &[u8]);
    /// The time.
    fn now(&self) -> Timestamp;
    /// Counts a verdict: a refusal's code, or none for a request that was accepted.
    fn count(&self, refused: Option<Code>);
}

/// Whether the host may go on with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send on what has arrived.
    Continue,
    /// Hold everything back.
    Pause,
}

/// Follows one request.
#[derive(Debug, Default)]
pub struct Guard {
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// The headers have not come.
    #[default]
    Head,
    /// The headers are good, the body is not complete.
    Body(Audience),
    Accepted,
    Refused,
}

impl Guard {
    /// The request headers are there.
    pub fn on_headers(&mut self, end_of_stream: bool, settings: &Settings, host: &impl Host) -> Step {
        let headers = host.request_headers();
        let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let head = Head::read(pairs, &settings.policy);
        // First of all, since the access log repeats some of them.
        if head.has_reserved() {
            for (name, _) in headers.iter().filter(|(name, _)| name.starts_with(RESERVED_PREFIX)) {
                host.replace_request_header(name, None);
            }
        }
        if let Err(refusal) = head.check(&settings.policy) {
            return self.refuse(refusal, settings, host);
        }
        self.phase = Phase::Body(head.audience());
        if end_of_stream { self.judge(settings, host) } else { Step::Pause }
    }

    /// A piece of the body is there, `size` bytes of it in all.
    pub fn on_body(&mut self, size: usize, end_of_stream: bool, settings: &Settings, host: &impl Host) -> Step {
        if let (Phase::Body(_), Err(refusal)) = (self.phase, decide::size(size, &settings.policy)) {
            return self.refuse(refusal, settings, host);
        }
        if end_of_stream { self.judge(settings, host) } else { self.step() }
    }

    /// Trailers are there. After them no body callback says that the stream has ended.
    pub fn on_trailers(&mut self, settings: &Settings, host: &impl Host) -> Step {
        self.judge(settings, host)
    }

    fn judge(&mut self, settings: &Settings, host: &impl Host) -> Step {
        let Phase::Body(audience) = self.phase else { return self.step() };
        let body = host.request_body();
        match decide::body(audience, &body, || host.now(), &settings.policy) {
            Ok(envelope) => self.accept(&envelope.key(), settings, host),
            Err(refusal) => self.refuse(refusal, settings, host),
        }
    }

    fn accept(&mut self, key: &EventKey, settings: &Settings, host: &impl Host) -> Step {
        self.phase = Phase::Accepted;
        host.replace_request_header(headers::EVENT_KEY, Some(key.as_str().as_bytes()));
        host.replace_request_header(headers::BUILD, Some(settings.build.as_bytes()));
        host.replace_request_header(headers::PROOF, Some(settings.proof.as_bytes()));
        host.count(None);
        Step::Continue
    }

    fn refuse(&mut self, refusal: Refusal, settings: &Settings, host: &impl Host) -> Step {
        self.phase = Phase::Refused;
        let common = [
            ("content-type", MEDIA_TYPE),
            (headers::REFUSAL, refusal.code.as_str()),
            (headers::BUILD, settings.build.as_str()),
            ("allow", "POST"),
        ];
        let used = if refusal.code == Code::MethodNotAllowed { 4 } else { 3 };
        host.count(Some(refusal.code));
        host.reply(refusal.code.status(), &common[..used], refusal.to_problem_json().as_bytes());
        Step::Pause
    }

    fn step(&self) -> Step {
        if self.phase == Phase::Accepted { Step::Continue } else { Step::Pause }
    }
}
