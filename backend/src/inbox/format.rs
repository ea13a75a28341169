//! The format of what is stored, and which versions of the backend may use it.
//!
//! Each partition has a key that records its format ([`Keys`](super::keys::Keys)): the newest
//! format that a backend has written there, and the format that a backend must know to work on the
//! partition. A partition without this key has format 0. The key is in the partition's slot, so it
//! is on the same server as the events, moves with them, and is part of each backup.
//!
//! # The number guards, and does nothing else
//! It decides which backends may work on a partition. It does not say what an entry contains:
//! while a rolling upgrade lasts, backends of two formats write to the same partition, and after a
//! restore a partition may hold entries of every earlier format. So a backend reads each entry by
//! the fields that the entry has, and takes the meaning of a missing field from the format that
//! lacked it. Nothing is converted, and no start has to wait for a conversion.
//!
//! # Who writes it, and who checks it
//! - Each backend and each command, when it connects, raises the format of every partition to its
//!   own (`raise_format.lua`). It never lowers a format.
//! - Each connection over which events are stored is checked before its first event, and every 15
//!   seconds from then on ([`servers`](super::servers)). A server with a format that this version
//!   must not use is unfit: the backend is not ready, and answers 503 to every event.
//! - `acquire.lua` grants no lease to a backend that does not know the required format. If raising
//!   the format excludes the partition's owner, the owner loses its lease in the same step.
//!
//! Storing an event neither reads nor writes the format.
//!
//! # The formats
//! | format | requires | written by | what is new |
//! |---|---|---|---|
//! | 0 | | versions before 0.1.0 | |
//! | 1 | 0 | 0.1.0 | this key; scripts that move an entry keep fields that they do not know |
//!
//! # How to add a format
//! 1. Increment [`SUPPORTED`]`.newest`, and add a line to the table above and to the one in
//!    `docs/OPERATIONS.md`.
//! 2. Add keys and fields, and leave the old ones as they are: then the backends of the format
//!    before can go on during the upgrade, and `required` stays. From format 1 on, the scripts of
//!    every backend keep unknown fields of an entry. A script that adds a field replaces one of the
//!    same name, which the entry may have from an earlier attempt.
//! 3. If the format before cannot be kept usable, do it in two releases: the first one reads the
//!    new format and writes the old one, the second one writes it and sets `required` to the
//!    format of the first.
//! 4. Record a store of the format before, and test that this version handles it
//!    (`tests/stores`).

use std::fmt;

/// The formats that a version of the backend can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    /// The oldest format that it reads.
    pub(super) oldest: u32,
    /// The newest format that it knows, which is the one that it writes.
    pub(super) newest: u32,
    /// The format that another backend must know to work beside this one.
    pub(super) required: u32,
}

/// The formats that this version can use.
pub(super) const SUPPORTED: Support = Support { oldest: 0, newest: 1, required: 0 };

/// The version of this backend.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The format of one partition, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// The newest format that a backend has written.
    pub(super) format: u32,
    /// The format that a backend must know to work on the partition.
    pub(super) required: u32,
    /// The version of the backend that wrote this format first.
    pub(super) version: String,
}

/// What to do before using a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its format is this backend's, or a newer one that this backend may use.
    Usable,
    /// Its format is older, and has to be raised.
    Raise,
}

/// Why this backend must not use a partition. The message continues the sentence "Redis at ADDRESS
/// …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// Only backends that know a newer format may use it.
    TooNew(Stored),
    /// This version no longer reads the format.
    TooOld(Stored, Support),
}

impl Support {
    /// Decides whether a backend with this support may use a partition.
    ///
    /// # Errors
    /// If the partition requires a newer format, or has one that is no longer read.
    pub(super) fn judge(self, stored: &Stored) -> Result<Verdict, Problem> {
        if stored.required > self.newest {
            return Err(Problem::TooNew(stored.clone()));
        }
        if stored.format < self.oldest {
            return Err(Problem::TooOld(stored.clone(), self));
        }
        Ok(if stored.format < self.newest { Verdict::Raise } else { Verdict::Usable })
    }
}

impl Stored {
    /// Decodes the fields [`Self::FIELDS`]. All of them are missing for format 0.
    pub(super) fn read(fields: &[Option<String>]) -> Self {
        let field = |place: usize| fields.get(place).cloned().flatten().unwrap_or_default();
        Self { format: number(&field(0)), required: number(&field(1)), version: field(2) }
    }

    /// The names of the fields.
    pub(super) const FIELDS: [&str; 3] = ["format", "required", "version"];
}

/// Reads a number. A damaged one is greater than any format, so that nobody uses the partition by
/// mistake.
fn number(text: &str) -> u32 {
    if text.is_empty() { 0 } else { text.parse().unwrap_or(u32::MAX) }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooNew(Stored { format, required, version }) => write!(
                f,
                "holds events in format {format}, written by version {version}, which requires a backend that knows \
                 format {required}; this is version {VERSION}, which knows formats up to {}: run version {version} or a \
                 newer one",
                SUPPORTED.newest
            ),
            Self::TooOld(Stored { format, .. }, support) => write!(
                f,
                "holds events in format {format}, but version {VERSION} reads only formats from {} on: first upgrade to \
                 a version that reads format {format} (the section \"Upgrade\" of docs/OPERATIONS.md lists them)",
                support.oldest
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(format: u32, required: u32) -> Stored {
        Stored { format, required, version: "0.3.0".to_owned() }
    }

    #[test]
    fn a_backend_uses_what_it_reads_and_what_does_not_require_a_newer_format() {
        let support = Support { oldest: 2, newest: 4, required: 3 };
        for (format, required, expected) in [
            (1, 0, None),
            (2, 1, Some(Verdict::Raise)),
            (3, 3, Some(Verdict::Raise)),
            (4, 3, Some(Verdict::Usable)),
            (5, 4, Some(Verdict::Usable)),
            (9, 0, Some(Verdict::Usable)),
            (5, 5, None),
            (u32::MAX, u32::MAX, None),
        ] {
            assert_eq!(support.judge(&stored(format, required)).ok(), expected, "{format} {required}");
        }
    }

    #[test]
    fn this_version_reads_the_format_before_it_and_excludes_no_backend_of_it() {
        let Support { oldest, newest, required } = SUPPORTED;
        assert!(oldest < newest && required < newest, "{SUPPORTED:?}");
    }

    #[test]
    fn a_partition_without_the_key_has_format_0_and_a_damaged_one_is_not_used() {
        let read = |fields: [Option<&str>; 3]| Stored::read(&fields.map(|field| field.map(str::to_owned)));
        assert_eq!(read([None, None, None]), Stored { format: 0, required: 0, version: String::new() });
        assert_eq!(read([Some("3"), Some("2"), Some("0.3.0")]), stored(3, 2));
        assert_eq!(Stored::read(&[]).format, 0);
        assert_eq!(SUPPORTED.judge(&read([None, None, None])), Ok(Verdict::Raise));
        for damaged in ["-1", "new", "99999999999"] {
            assert!(SUPPORTED.judge(&read([Some("1"), Some(damaged), None])).is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_problem_says_what_to_run() {
        let newer = SUPPORTED.judge(&stored(7, 6)).unwrap_err().to_string();
        assert!(newer.contains("in format 7") && newer.ends_with("run version 0.3.0 or a newer one"), "{newer}");
        let support = Support { oldest: 2, newest: 4, required: 3 };
        let older = support.judge(&stored(1, 0)).unwrap_err().to_string();
        assert!(older.contains("in format 1") && older.contains("formats from 2 on: first upgrade"), "{older}");
    }
}
