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
//! - Each backend, when it connects, raises the format and the required format of every partition
//!   to its own (`raise_format.lua`). Neither is ever lowered.
//! - Commands such as `backend replay` check the format and leave it as it is: one of a newer
//!   version must not exclude the running backends.
//! - Each connection over which events are stored is checked before its first event, and every 15
//!   seconds from then on ([`servers`](super::servers)). A server with a format that this version
//!   must not use is unfit: the backend is not ready, and answers 503 to every event.
//! - `acquire.lua` grants no lease to a backend that does not know the required format. If raising
//!   the required format excludes the partition's owner, the owner loses its lease in the same step.
//!   An excluded backend deregisters, so that the others take over its share
//!   ([`members`](super::members)).
//!
//! Storing an event neither reads nor writes the format.
//!
//! # The formats
//! | format | requires | written by | what is new |
//! |---|---|---|---|
//! | 0 | | versions before 0.1.0 | |
//! | 1 | 0 | 0.1.0 | this key; history, failures, traces; unknown fields of an entry are kept |
//!
//! # How to add a format
//! 1. Increment [`SUPPORTED`]`.newest`, and add a line to the table above and to the one in
//!    `docs/OPERATIONS.md`.
//! 2. Add keys and fields, and leave the old ones as they are: then the backends of the format
//!    before can go on during the upgrade, and `required` stays. From format 1 on, the scripts of
//!    every backend keep unknown fields of an entry. A script that adds a field replaces one of the
//!    same name, which the entry may have from an earlier attempt.
//! 3. If backends of the format before could not read the new entries, take two releases, each with
//!    a format of its own. The first one, with format N, reads the new entries, but writes none.
//!    The second one, with format N + 1, writes them and sets `required` to N. When it starts, it
//!    excludes the backends that cannot read the new entries, and no backend of format N.
//! 4. Record a store of the format before, and test that this version handles it
//!    (`tests/stores`).
//! 5. Leave [`SUPPORTED`]`.oldest` as it is, unless no entry of the dropped formats can be left
//!    ([`Support::oldest`]).

use std::fmt;

use redis::RedisResult;

/// The formats that a version of the backend can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    /// The oldest format that it reads. It refuses a partition whose recorded format is older.
    ///
    /// A newer recorded format does not mean that older entries are gone: raising it converts
    /// nothing, and a dead letter or a quarantined event stays for `redis.unhandled_retention_days`,
    /// or for ever if that is 0. So a version that increases `oldest` must have the operator replay,
    /// readmit or drop such entries before the upgrade.
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

/// Who uses a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// A backend, which raises the format to its own.
    Backend,
    /// A command, which leaves the format as it is.
    Command,
}

/// What to do before using a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be used as it is.
    Usable,
    /// Its format or required format is lower than this backend's, and has to be raised.
    Raise,
}

/// Why this version must not use a partition. The message continues the sentence "Redis at ADDRESS
/// …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// Only backends that know a newer format may use it.
    TooNew(Stored),
    /// This version no longer reads the format.
    TooOld(Stored, Support),
    /// Backends may use it that cannot read what this version writes.
    NotRaised(Stored, Support),
    /// This key, which records the format, cannot be read.
    Damaged(String),
}

impl Support {
    /// Decides whether a program with this support may use a partition.
    ///
    /// # Errors
    /// If the partition requires a newer format, or has one that is no longer read; for a command
    /// also if a backend of this version has to raise the required format first.
    pub(super) fn judge(self, stored: &Stored, user: User) -> Result<Verdict, Problem> {
        if stored.required > self.newest {
            return Err(Problem::TooNew(stored.clone()));
        }
        if stored.format < self.oldest {
            return Err(Problem::TooOld(stored.clone(), self));
        }
        match user {
            User::Backend if stored.format < self.newest || stored.required < self.required => Ok(Verdict::Raise),
            User::Command if stored.required < self.required => Err(Problem::NotRaised(stored.clone(), self)),
            User::Backend | User::Command => Ok(Verdict::Usable),
        }
    }
}

impl Stored {
    /// Decodes the answer to `HMGET key` with the fields [`Self::FIELDS`]. A key that is not a hash is
    /// damaged.
    ///
    /// # Errors
    /// If Redis answered with another error, which says nothing about the format.
    pub(super) fn answered(key: &str, answer: RedisResult<Vec<Option<String>>>) -> RedisResult<Result<Self, Problem>> {
        match answer {
            Ok(fields) => Ok(Self::read(key, &fields)),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Err(Problem::Damaged(key.to_owned()))),
            Err(error) => Err(error),
        }
    }

    /// Decodes the fields [`Self::FIELDS`] of `key`. All of them are missing for format 0.
    ///
    /// # Errors
    /// If a number is damaged.
    pub(super) fn read(key: &str, fields: &[Option<String>]) -> Result<Self, Problem> {
        let field = |place: usize| fields.get(place).and_then(Option::as_deref);
        let number = |place| number(field(place)).ok_or_else(|| Problem::Damaged(key.to_owned()));
        Ok(Self { format: number(0)?, required: number(1)?, version: field(2).unwrap_or_default().to_owned() })
    }

    /// The names of the fields.
    pub(super) const FIELDS: [&str; 3] = ["format", "required", "version"];
}

/// Reads a number. Returns `None` if it is damaged. The scripts accept these numbers too, and also
/// numbers that are too large for `u32`. The latter are greater than every format, which is how the
/// scripts treat a damaged number.
fn number(text: Option<&str>) -> Option<u32> {
    let Some(text) = text else { return Some(0) };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
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
            Self::NotRaised(Stored { required, .. }, support) => write!(
                f,
                "may be used by backends that know only format {required}, which cannot read what version {VERSION} \
                 writes: first start a backend of version {VERSION}, which raises the required format to {}",
                support.required
            ),
            Self::Damaged(key) => write!(
                f,
                "holds the damaged key {key}, so the format of its partition is unknown: the key must be a hash whose \
                 fields `format` and `required` are numbers. Copy the fields from the same key of another partition, with \
                 HGETALL and HSET"
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

    fn read(fields: [Option<&str>; 3]) -> Result<Stored, Problem> {
        Stored::read("{edge:7}:format", &fields.map(|field| field.map(str::to_owned)))
    }

    #[test]
    fn a_backend_uses_what_it_reads_and_what_does_not_require_a_newer_format() {
        let support = Support { oldest: 2, newest: 4, required: 3 };
        for (format, required, backend, command) in [
            (1, 0, None, None),
            (2, 1, Some(Verdict::Raise), None),
            (3, 3, Some(Verdict::Raise), Some(Verdict::Usable)),
            (4, 2, Some(Verdict::Raise), None),
            (4, 3, Some(Verdict::Usable), Some(Verdict::Usable)),
            (5, 4, Some(Verdict::Usable), Some(Verdict::Usable)),
            (9, 0, Some(Verdict::Raise), None),
            (5, 5, None, None),
            (u32::MAX, u32::MAX, None, None),
        ] {
            let stored = stored(format, required);
            assert_eq!(support.judge(&stored, User::Backend).ok(), backend, "{stored:?}");
            assert_eq!(support.judge(&stored, User::Command).ok(), command, "{stored:?}");
        }
    }

    #[test]
    fn this_version_reads_the_format_before_it_and_excludes_no_backend_of_it() {
        let Support { oldest, newest, required } = SUPPORTED;
        assert!(oldest < newest && required < newest, "{SUPPORTED:?}");
    }

    #[test]
    fn a_partition_without_the_key_has_format_0_and_a_damaged_one_is_not_used() {
        let nothing = Stored { format: 0, required: 0, version: String::new() };
        assert_eq!(read([None, None, None]), Ok(nothing.clone()));
        assert_eq!(Stored::read("key", &[]), Ok(nothing.clone()));
        assert_eq!(read([Some("3"), Some("2"), Some("0.3.0")]), Ok(stored(3, 2)));
        assert_eq!(SUPPORTED.judge(&nothing, User::Backend), Ok(Verdict::Raise));
        for damaged in ["-1", "+1", "new", "nan", "0x1", "", " 1", "99999999999"] {
            for fields in [[Some("1"), Some(damaged), None], [Some(damaged), Some("0"), None]] {
                let problem = read(fields).unwrap_err();
                assert_eq!(problem, Problem::Damaged("{edge:7}:format".to_owned()), "{damaged}");
            }
        }
    }

    #[test]
    fn a_problem_says_what_to_run() {
        let newer = SUPPORTED.judge(&stored(7, 6), User::Backend).unwrap_err().to_string();
        assert!(newer.contains("in format 7") && newer.ends_with("run version 0.3.0 or a newer one"), "{newer}");
        let support = Support { oldest: 2, newest: 4, required: 3 };
        let older = support.judge(&stored(1, 0), User::Backend).unwrap_err().to_string();
        assert!(older.contains("in format 1") && older.contains("formats from 2 on: first upgrade"), "{older}");
        let not_raised = support.judge(&stored(3, 2), User::Command).unwrap_err().to_string();
        assert!(not_raised.contains("only format 2") && not_raised.ends_with("required format to 3"), "{not_raised}");
        let damaged = read([Some("new"), None, None]).unwrap_err().to_string();
        assert!(damaged.contains("the damaged key {edge:7}:format") && damaged.contains("HGETALL"), "{damaged}");
    }
}
