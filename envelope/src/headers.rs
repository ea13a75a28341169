//! The headers that the edge and the backend exchange, in lower case as in HTTP/2.

/// The prefix of all headers of the edge. The filter removes headers with this prefix that a client
/// sends.
pub const RESERVED_PREFIX: &str = "x-edge-";

/// On a request that passes: the [`Judgement`]. It is one header, because each header costs the
/// filter a host call per request.
pub const JUDGED: &str = "x-edge-judged";

/// On every answer to a judged request: the build of the filter that judged it.
pub const BUILD: &str = "x-edge-build";

/// On the filter's answer to a probe: the [`Requirement`](crate::Requirement).
pub const REQUIRES: &str = "x-edge-requires";

/// On an answer: the [`EventKey`](crate::EventKey), for the access log.
pub const EVENT_KEY: &str = "x-edge-event-key";

/// On a rejection: the [`Code`](crate::Code), for the access log.
pub const REJECTION: &str = "x-edge-rejection";

/// On an answer to a request that passed in shadow mode: the code that it would have been rejected
/// with.
pub const SHADOW: &str = "x-edge-shadow";

/// The filter's judgement of a request that passes, written `proof;build;mark`.
///
/// Filter and backend may be of neighbouring versions. A later version may append fields, which
/// this one ignores, and may add marks, which this one reads as [`Mark::Unknown`]. It must not
/// change the three fields or a mark that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The secret by which the backend recognizes the filter. The backend accepts no request
    /// without it.
    pub proof: &'a [u8],
    /// The build of the filter that judged the request.
    pub build: &'a str,
    /// The result.
    pub mark: Mark<'a>,
}

/// Why a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// It is one of the eight documented events.
    Accepted,
    /// It is an undocumented event, which the backend quarantines.
    Quarantined,
    /// It would have been rejected with this code, but passes in shadow mode.
    Shadowed(&'a str),
    /// It is guardctl asking whether the backend knows the proof.
    Probe,
    /// A mark of a later version, or none at all.
    Unknown(&'a str),
}

impl<'a> Judgement<'a> {
    /// Returns the header's value.
    pub fn write(proof: &str, build: &str, mark: Mark<'_>) -> String {
        let (mark, code) = match mark {
            Mark::Accepted => ("accepted", ""),
            Mark::Quarantined => ("quarantined", ""),
            Mark::Shadowed(code) => ("shadowed:", code),
            Mark::Probe => ("probe", ""),
            Mark::Unknown(mark) => (mark, ""),
        };
        [proof, ";", build, ";", mark, code].concat()
    }

    /// Reads the header's value. A field that is missing or not UTF-8 is read as empty.
    pub fn read(value: &'a [u8]) -> Self {
        let mut fields = value.split(|&byte| byte == b';');
        let proof = fields.next().unwrap_or_default();
        let mut text = || std::str::from_utf8(fields.next().unwrap_or_default()).unwrap_or_default();
        let build = text();
        let mark = match text() {
            "accepted" => Mark::Accepted,
            "quarantined" => Mark::Quarantined,
            "probe" => Mark::Probe,
            other => other.strip_prefix("shadowed:").map_or(Mark::Unknown(other), Mark::Shadowed),
        };
        Self { proof, build, mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_reads_back() {
        let marks =
            [Mark::Accepted, Mark::Quarantined, Mark::Shadowed("too_deep"), Mark::Probe, Mark::Unknown("deferred")];
        for mark in marks {
            let written = Judgement::write("proof", "build-1", mark);
            assert_eq!(Judgement::read(written.as_bytes()), Judgement { proof: b"proof", build: "build-1", mark });
        }
    }

    #[test]
    fn the_header_of_a_later_version_is_read_as_far_as_this_one_knows_it() {
        for (value, build, mark) in [
            ("proof;build;accepted;later", "build", Mark::Accepted),
            ("proof;build;shadowed:later", "build", Mark::Shadowed("later")),
            ("proof;build;accepted-later", "build", Mark::Unknown("accepted-later")),
            ("proof;build;", "build", Mark::Unknown("")),
            ("proof;build", "build", Mark::Unknown("")),
            ("proof", "", Mark::Unknown("")),
        ] {
            assert_eq!(Judgement::read(value.as_bytes()), Judgement { proof: b"proof", build, mark }, "{value}");
        }
        let unreadable = Judgement { proof: b"\xff", build: "", mark: Mark::Unknown("") };
        assert_eq!(Judgement::read(b"\xff;\xff;\xff"), unreadable);
        assert_eq!(Judgement::read(b"").proof, b"");
    }
}
