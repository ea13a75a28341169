//! Headers that the edge and the backend agree on, in lower case as HTTP/2 sends them.

/// What all of our own headers begin with. A request from outside never gets one of them past the edge.
pub const RESERVED_PREFIX: &str = "x-edge-";

/// On a request that passes: how it was judged, as [`Judgement`] writes it. One header, because each costs the edge a call
/// of its host on every request.
pub const JUDGED: &str = "x-edge-judged";

/// On every answer to a judged request: the filter build that judged it.
pub const BUILD: &str = "x-edge-build";

/// On an answer: the [`EventKey`](crate::EventKey), so that the access log can hold it.
pub const EVENT_KEY: &str = "x-edge-event-key";

/// On a rejection: the [`Code`](crate::Code), so that the access log can hold it.
pub const REJECTION: &str = "x-edge-rejection";

/// On an answer to a request that passed in shadow mode: the code with which it would have been refused.
pub const SHADOW: &str = "x-edge-shadow";

/// How a request that passes was judged: `proof;build;mark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The secret that shows that the filter judged the request. The backend takes nothing without.
    pub proof: &'a [u8],
    /// The filter build that did.
    pub build: &'a str,
    /// What is to be known of it.
    pub mark: Mark<'a>,
}

/// What is to be known of a request that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// It is one of the eight events.
    Accepted,
    /// Its event is not documented: the backend keeps it apart.
    Quarantined,
    /// It would have been refused with this code, but passes in shadow mode.
    Shadowed(&'a str),
    /// It is the publisher's, and asks whether the backend knows the proof.
    Probe,
}

impl<'a> Judgement<'a> {
    /// The header's value.
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
        let (proof, build, mark) = (parts.next()?, parts.next()?, parts.next()?);
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
