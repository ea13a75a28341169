//! The headers that the edge and the backend exchange, in lower case as in HTTP/2.

/// The prefix of all headers of the edge. The filter removes headers with this prefix that a client
/// sends.
pub const RESERVED_PREFIX: &str = "x-edge-";

/// On a request that passes: the [`Judgement`]. It is one header, because each header costs the
/// filter a host call per request.
pub const JUDGED: &str = "x-edge-judged";

/// On every answer to a judged request: the build of the filter that judged it.
pub const BUILD: &str = "x-edge-build";

/// On an answer: the [`EventKey`](crate::EventKey), for the access log.
pub const EVENT_KEY: &str = "x-edge-event-key";

/// On a rejection: the [`Code`](crate::Code), for the access log.
pub const REJECTION: &str = "x-edge-rejection";

/// On an answer to a request that passed in shadow mode: the code that it would have been rejected
/// with.
pub const SHADOW: &str = "x-edge-shadow";

/// The filter's judgement of a request that passes, written `proof;build;mark`.
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
}

impl<'a> Judgement<'a> {
    /// Returns the header's value.
    pub fn write(proof: &str, build: &str, mark: Mark<'_>) -> String {
        let (mark, code) = match mark {
            Mark::Accepted => ("accepted", ""),
            Mark::Quarantined => ("quarantined", ""),
            Mark::Shadowed(code) => ("shadowed:", code),
            Mark::Probe => ("probe", ""),
        };
        [proof, ";", build, ";", mark, code].concat()
    }

    /// Reads the header's value.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let mut parts = value.split(|&byte| byte == b';');
        let proof = parts.next()?;
        let build = parts.next()?;
        let mark = parts.next()?;
        let mark = match std::str::from_utf8(mark).ok()? {
            "accepted" => Mark::Accepted,
            "quarantined" => Mark::Quarantined,
            "probe" => Mark::Probe,
            shadowed => Mark::Shadowed(shadowed.strip_prefix("shadowed:")?),
        };
        Some(Self { proof, build: std::str::from_utf8(build).ok()?, mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_reads_back() {
        for mark in [Mark::Accepted, Mark::Quarantined, Mark::Shadowed("too_deep"), Mark::Probe] {
            let written = Judgement::write("proof", "build-1", mark);
            assert_eq!(
                Judgement::read(written.as_bytes()),
                Some(Judgement { proof: b"proof", build: "build-1", mark })
            );
        }
        for value in ["", "proof", "proof;build", "proof;build;other", "\u{ff};\u{ff};x"] {
            assert_eq!(Judgement::read(value.as_bytes()), None, "{value}");
        }
    }
}
