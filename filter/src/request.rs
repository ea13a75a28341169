//! The path of one request through the filter: wait for all of it, judge it once, answer at most
//! once.

use envelope::{
    Code, Head, Mode, Policy, Rejection, Timestamp, Verdict,
    authenticity::Way,
    decide::{self, Passed},
    filter_settings::Settings,
    head::Claims,
    headers::{self, Judgement, Mark, RESERVED_PREFIX},
    problem::MEDIA_TYPE,
};

use crate::pairs;

/// The functions that the filter needs from its host. Each call costs about as much as judging a
/// small body.
pub trait Host {
    /// Returns all request headers, including pseudo-headers, with names in lower case, in the
    /// format that [`pairs`] reads.
    fn request_headers(&self) -> Vec<u8>;
    /// Returns the part of the request's body that has arrived.
    fn request_body(&self) -> Vec<u8>;
    /// Adds a request header. This costs a third of replacing one.
    fn add_request_header(&self, name: &str, value: &[u8]);
    /// Replaces all request headers of this name with a single one, or removes them.
    fn replace_request_header(&self, name: &str, value: Option<&[u8]>);
    /// Answers the request without a backend.
    fn reply(&self, status: u16, headers: &[(&str, &str)], body: &[u8]);
    /// Returns the time.
    fn now(&self) -> Timestamp;
    /// Counts a request.
    fn count(&self, counted: Counted);
    /// Begins to measure a decision, if this request is one of those to measure.
    fn begin(&self) -> Option<Begun>;
    /// Records the duration of a decision, and the size of the body.
    fn end(&self, begun: Begun, body_bytes: usize);
}

/// When a decision began, in nanoseconds of the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun(pub u64);

/// What the filter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A request passed as an event.
    Accepted,
    /// A request passed as an undocumented event.
    Quarantined,
    /// A request was rejected.
    Rejected(Code),
    /// A request would have been rejected, but passed in shadow mode.
    Shadowed(Code),
    /// A request passed only because the superseded kind of authenticity is still accepted.
    Superseded,
    /// A request came from guardctl.
    Probed,
}

/// What the host does next with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Forwards what has arrived.
    Continue,
    /// Holds everything back.
    Pause,
}

/// The filter's state for one request.
#[derive(Debug, Default)]
pub struct RequestFilter {
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    /// The headers have not arrived.
    #[default]
    Head,
    /// The headers are valid, and the body is not complete.
    Body(Claims),
    Passed,
    Rejected,
}

impl RequestFilter {
    /// Handles the request headers.
    pub fn on_headers(&mut self, end_of_stream: bool, settings: &Settings, host: &impl Host) -> Step {
        let headers = host.request_headers();
        let head = Head::read(pairs::read(&headers), &settings.policy);
        if head.has_reserved() {
            let names = pairs::read(&headers).filter_map(|(name, _)| std::str::from_utf8(name).ok());
            for name in names.filter(|name| name.starts_with(RESERVED_PREFIX)) {
                host.replace_request_header(name, None);
            }
        }
        if head.path() == Policy::PROBE_PATH.as_bytes() {
            return self.answer(Rejection::new(Code::NotFound), Counted::Probed, settings, host);
        }
        if head.path() == Policy::PROVE_PATH.as_bytes() {
            return self.pass(Mark::Probe, Counted::Probed, settings, host);
        }
        // The path changes only after the probes are answered, because Envoy then selects the route
        // again.
        if let Some(path) = settings.policy.path_without_token(head.path()) {
            host.replace_request_header(":path", Some(path.as_bytes()));
        }
        match head.check(&settings.policy, || host.now()) {
            Err(rejection) => self.reject(rejection, settings, host),
            Ok(claims) if end_of_stream => self.judge(&claims, settings, host),
            Ok(claims) => {
                self.phase = Phase::Body(claims);
                Step::Pause
            }
        }
    }

    /// Handles a piece of the body, of which `size` bytes have arrived in total.
    pub fn on_body(&mut self, size: usize, end_of_stream: bool, settings: &Settings, host: &impl Host) -> Step {
        if let (Phase::Body(_), Err(rejection)) = (&self.phase, decide::size(size, &settings.policy)) {
            return self.reject(rejection, settings, host);
        }
        if end_of_stream { self.end(settings, host) } else { self.step() }
    }

    /// Handles trailers. No body callback reports the end of the stream after them.
    pub fn on_trailers(&mut self, settings: &Settings, host: &impl Host) -> Step {
        self.end(settings, host)
    }

    fn end(&mut self, settings: &Settings, host: &impl Host) -> Step {
        match std::mem::take(&mut self.phase) {
            Phase::Body(claims) => self.judge(&claims, settings, host),
            judged => {
                self.phase = judged;
                self.step()
            }
        }
    }

    fn judge(&mut self, claims: &Claims, settings: &Settings, host: &impl Host) -> Step {
        let begun = host.begin();
        let body = host.request_body();
        let verdict = decide::body(claims, &body, || host.now(), &settings.policy);
        if let Some(begun) = begun {
            host.end(begun, body.len());
        }
        match verdict {
            Ok(Passed { verdict, way }) => {
                if way == Way::Superseded {
                    host.count(Counted::Superseded);
                }
                match verdict {
                    Verdict::Accept(_) => self.pass(Mark::Accepted, Counted::Accepted, settings, host),
                    Verdict::Quarantine(_) => self.pass(Mark::Quarantined, Counted::Quarantined, settings, host),
                }
            }
            Err(rejection) => self.reject(rejection, settings, host),
        }
    }

    fn pass(&mut self, mark: Mark<'_>, counted: Counted, settings: &Settings, host: &impl Host) -> Step {
        self.phase = Phase::Passed;
        if mark == Mark::Accepted {
            host.add_request_header(headers::JUDGED, settings.accepted.as_bytes());
        } else {
            let judgement = Judgement::write(&settings.proof, &settings.build, mark);
            host.add_request_header(headers::JUDGED, judgement.as_bytes());
        }
        host.count(counted);
        Step::Continue
    }

    fn reject(&mut self, rejection: Rejection, settings: &Settings, host: &impl Host) -> Step {
        let code = rejection.code;
        if settings.policy.mode == Mode::Shadow {
            return self.pass(Mark::Shadowed(code.as_str()), Counted::Shadowed(code), settings, host);
        }
        self.answer(rejection, Counted::Rejected(code), settings, host)
    }

    fn answer(&mut self, rejection: Rejection, counted: Counted, settings: &Settings, host: &impl Host) -> Step {
        let code = rejection.code;
        self.phase = Phase::Rejected;
        let mut answer = vec![
            ("content-type", MEDIA_TYPE),
            (headers::REJECTION, code.as_str()),
            (headers::BUILD, settings.build.as_str()),
        ];
        // RFC 9110 requires these headers.
        match code.status() {
            405 => answer.push(("allow", "POST")),
            401 => answer.push(("www-authenticate", "Webhook-Signature")),
            _ => {}
        }
        if counted == Counted::Probed {
            answer.push((headers::REQUIRES, settings.policy.requirement().as_str()));
        }
        host.count(counted);
        host.reply(code.status(), &answer, rejection.to_problem_json().as_bytes());
        Step::Pause
    }

    fn step(&self) -> Step {
        if matches!(self.phase, Phase::Passed) { Step::Continue } else { Step::Pause }
    }
}
