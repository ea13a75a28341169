//! Reads what every answer is wrapped in, `{"success":…,"message":…,"data":…}`, and says where `data` is, so that it can be
//! passed on as it was written.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
    ops::Range,
};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// What a result's parts say of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Statuses {
    /// How many parts say something.
    pub(super) parts: u64,
    /// How many of these are not at their end.
    pub(super) pending: u64,
    /// How many completed.
    pub(super) completed: u64,
    /// How many failed.
    pub(super) failed: u64,
}

/// What was read of an answer.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Whether it says `"success": false`, with a status that says otherwise.
    pub(super) is_failure: bool,
    /// What its parts say.
    pub(super) statuses: Statuses,
    /// Where its data is.
    pub(super) data: Range<u64>,
}

/// The member `success`. What is not a boolean there is not documented, and says nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Success {
    Flag(bool),
    Other(IgnoredAny),
}

impl Success {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Flag(false))
    }
}

/// Whether an answer says that the call failed, whatever else it says.
pub(super) fn says_that_it_failed(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Flag {
        success: Success,
    }
    serde_json::from_slice::<Flag>(answer).is_ok_and(|answer| answer.success.is_failure())
}

/// Reads an answer with the result `name`: what its parts say, and where its data is.
///
/// # Errors
/// Where it is not such an answer, or its data is neither an object nor a list.
pub(super) fn read(answer: &[u8], name: &str) -> io::Result<Answered> {
    #[derive(Deserialize)]
    struct InMemory<'a> {
        success: Option<Success>,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let InMemory { success, data } = serde_json::from_slice(answer)?;
    let (is_failure, data) = (success.is_some_and(|success| success.is_failure()), data.get());
    let mut statuses = Statuses::default();
    let look = Look { within: Within::Data(name), statuses: &mut statuses };
    look.deserialize(&mut serde_json::Deserializer::from_str(data))?;
    let begin = (data.as_ptr().addr() - answer.as_ptr().addr()) as u64;
    Ok(Answered { is_failure, statuses, data: begin..begin + data.len() as u64 })
}

/// The same for an answer that is not in memory: byte by byte, which is slower.
///
/// # Errors
/// Those of [`read`], and where it cannot be read.
pub(super) fn read_from(reader: &mut dyn Read, name: &str) -> io::Result<Answered> {
    let place = Cell::new(0);
    let mut json = serde_json::Deserializer::from_reader(Counted { reader, place: &place });
    let answered = json.deserialize_map(Answer { name, place: &place })?;
    json.end()?;
    Ok(answered)
}

/// Counts what is read. serde_json takes one byte at a time, and none after the one that ends a list or an object.
struct Counted<'a> {
    reader: &'a mut dyn Read,
    place: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.place.set(self.place.get() + read as u64);
        Ok(read)
    }
}

struct Answer<'a> {
    name: &'a str,
    place: &'a Cell<u64>,
}

impl<'de> Visitor<'de> for Answer<'_> {
    type Value = Answered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut data, mut is_failure) = (None, false);
        while let Some(name) = map.next_key::<String>()? {
            if name == "success" {
                is_failure |= map.next_value::<Success>()?.is_failure();
            } else if name == "data" {
                if data.is_some() {
                    return Err(de::Error::duplicate_field("data"));
                }
                data = Some(map.next_value_seed(Data { name: self.name, place: self.place })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let (statuses, data) = data.ok_or_else(|| de::Error::missing_field("data"))?;
        Ok(Answered { is_failure, statuses, data })
    }
}

struct Data<'a> {
    name: &'a str,
    place: &'a Cell<u64>,
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = (Statuses, Range<u64>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let (begin, mut statuses) = (self.place.get(), Statuses::default());
        Look { within: Within::Data(self.name), statuses: &mut statuses }.deserialize(deserializer)?;
        Ok((statuses, begin..self.place.get()))
    }
}

/// Looks for the statuses of a result's parts, and passes over everything else without keeping it.
///
/// The documentation shows the parts of a forensics result in a member of that name. For the other features it does not
/// say, so a plain list is looked through as well; a shape that is neither is taken as it is.
struct Look<'a> {
    within: Within<'a>,
    statuses: &'a mut Statuses,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within<'a> {
    Data(&'a str),
    Parts,
    Part,
    Status,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let within = match self.within {
                Within::Data(parts) if name == parts => Within::Parts,
                Within::Part if name == "status" => Within::Status,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(Look { within, statuses: self.statuses })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if matches!(self.within, Within::Data(_) | Within::Parts) {
            while list.next_element_seed(Look { within: Within::Part, statuses: self.statuses })?.is_some() {}
        } else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if self.within == Within::Status {
            self.statuses.parts += 1;
            self.statuses.pending += u64::from(matches!(text, "queued" | "processing"));
            self.statuses.completed += u64::from(text == "completed");
            self.statuses.failed += u64::from(text == "failed");
        }
        self.scalar()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }
}

impl Look<'_> {
    /// Where a scalar ends is known only after the next byte, so it cannot be taken out.
    fn scalar<E: de::Error>(self) -> Result<(), E> {
        match self.within {
            Within::Data(_) => Err(E::custom("data that is neither an object nor a list")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways have to come to the same.
    fn read(answer: &str, name: &str) -> Option<(Statuses, String)> {
        let found = [super::read(answer.as_bytes(), name), read_from(&mut answer.as_bytes(), name)].map(|read| {
            let Answered { is_failure, statuses, data: Range { start, end } } = read.ok()?;
            assert_eq!(is_failure, says_that_it_failed(answer.as_bytes()), "{answer}");
            if is_failure {
                return None;
            }
            let data = &answer[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            Some((statuses, data.trim().to_owned()))
        });
        let [in_memory, read_from] = found;
        assert_eq!(in_memory, read_from, "{answer}");
        in_memory
    }

    fn statuses(data: &str) -> Statuses {
        read(&format!(r#"{{"success":true,"data":{data}}}"#), "forensics").unwrap().0
    }

    #[test]
    fn the_parts_statuses_are_counted_wherever_the_parts_are() {
        let counted = |parts, pending, failed| Statuses { parts, pending, completed: 0, failed };
        assert_eq!(statuses(r#"{"forensics":[{"status":"processing"},{"status":"queued"}]}"#), counted(2, 2, 0));
        assert_eq!(statuses(r#"[{"status":"processing"},{"x":[{"status":"failed"}]},7]"#), counted(1, 1, 0));
        assert_eq!(statuses(r#"{"forensics":[{"status":"failed"},{"status":"new"}]}"#), counted(2, 0, 1));
        let completed = Statuses { parts: 2, completed: 1, ..Statuses::default() };
        assert_eq!(statuses(r#"{"forensics":[{"status":"completed"},{"status":"done"}]}"#), completed);
        for other in
            [r#"{"forensics":[]}"#, r#"{"forensics":{"status":"failed"}}"#, r#"{"status":"failed"}"#, "[[1.5]]"]
        {
            assert_eq!(statuses(other), Statuses::default(), "{other}");
        }
    }

    #[test]
    fn the_data_is_found_as_it_was_written() {
        for data in [r#"{"a": 1.0, "b" :"}]" }"#, "[ ]", r#"{"é":"\"{"}"#] {
            for answer in [
                format!(r#"{{"data":{data}}}"#),
                format!(" {{ \"success\" : true , \"data\" : {data} , \"message\" : \"data\" }}\n"),
            ] {
                assert_eq!(read(&answer, "extraction").unwrap().1, data, "{answer}");
            }
        }
    }

    #[test]
    fn an_answer_that_says_that_the_call_failed_is_not_a_result() {
        for answer in [
            r#"{"success":false,"data":{"forensics":[{"status":"completed"}]}}"#,
            r#"{"data":{"forensics":[{"status":"completed"}]}, "success" : false}"#,
            r#"{"success":false,"message":"x","data":[]}"#,
        ] {
            assert!(super::read(answer.as_bytes(), "forensics").unwrap().is_failure, "{answer}");
            assert_eq!(read(answer, "forensics"), None, "{answer}");
        }
        for answer in [r#"{"success":false}"#, r#"{"success":false,"data":null}"#] {
            assert!(says_that_it_failed(answer.as_bytes()) && read(answer, "forensics").is_none(), "{answer}");
        }
        for success in ["true", "null", "0", "\"false\"", "{\"success\":false}"] {
            let answer = format!(r#"{{"success":{success},"data":{{"success":false}}}}"#);
            assert!(read(&answer, "forensics").is_some(), "{answer}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let twice = r#"{"data":{},"data":{}}"#;
        for answer in
            ["", "[]", "{}", r#"{"data":null}"#, r#"{"data":{}"#, r#"{"data":{}}x"#, r#"{"data":{,}}"#, "<html>", twice]
        {
            assert_eq!(read(answer, "extraction"), None, "{answer}");
        }
    }
}
