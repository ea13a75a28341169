//! Reads the object that wraps every answer, `{"success":…,"message":…,"data":…}`, and locates
//! `data` in it, so that `data` can be passed on byte for byte.

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

use super::Parts;

/// What an answer says.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Whether it says `"success": false`, although its status was 200.
    pub(super) is_failure: bool,
    /// The parts of its result.
    pub(super) parts: Parts,
    /// The place of `data` in the answer, in bytes.
    pub(super) data: Range<u64>,
}

/// The member `success`. A value other than a boolean is not documented, and is ignored.
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

/// Reads an answer that contains the result `name`. If it says that the call failed, whatever else it
/// contains does not matter.
///
/// # Errors
/// If the answer is not as documented, or its data is neither an object nor an array.
pub(super) fn read(answer: &[u8], name: &str) -> io::Result<Answer> {
    #[derive(Deserialize)]
    struct InMemory<'a> {
        success: Option<Success>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let InMemory { success, data } = serde_json::from_slice(answer)?;
    if success.is_some_and(|success| success.is_failure()) {
        return Ok(Answer { is_failure: true, ..Answer::default() });
    }
    let data = data.ok_or(io::ErrorKind::InvalidData)?.get();
    let mut parts = Parts::default();
    let scan = Scan { within: Within::Data(name), parts: &mut parts };
    scan.deserialize(&mut serde_json::Deserializer::from_str(data))?;
    let begin = (data.as_ptr().addr() - answer.as_ptr().addr()) as u64;
    Ok(Answer { is_failure: false, parts, data: begin..begin + data.len() as u64 })
}

/// Reads an answer that is not in memory. This is slower than [`read`], since it goes byte by byte.
///
/// # Errors
/// If the answer is not as documented, its data is neither an object nor an array, or `reader`
/// fails.
pub(super) fn read_from(reader: &mut dyn Read, name: &str) -> io::Result<Answer> {
    let position = Cell::new(0);
    let mut json = serde_json::Deserializer::from_reader(Counted { reader, position: &position });
    let answer = json.deserialize_map(AnswerVisitor { name, position: &position })?;
    json.end()?;
    Ok(answer)
}

/// Counts the bytes that are read. serde_json reads one byte at a time, and none beyond the end of
/// an object or an array.
struct Counted<'a> {
    reader: &'a mut dyn Read,
    position: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}

/// Reads an answer from a [`Counted`] reader.
struct AnswerVisitor<'a> {
    name: &'a str,
    position: &'a Cell<u64>,
}

impl<'de> Visitor<'de> for AnswerVisitor<'_> {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut data = None;
        let mut is_failure = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "success" {
                is_failure |= map.next_value::<Success>()?.is_failure();
            } else if name == "data" {
                if data.is_some() {
                    return Err(de::Error::duplicate_field("data"));
                }
                data = Some(map.next_value_seed(Data { name: self.name, position: self.position })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let (parts, data) = data.ok_or_else(|| de::Error::missing_field("data"))?;
        Ok(Answer { is_failure, parts, data })
    }
}

/// Scans the value of `data`, and notes where it begins and ends.
struct Data<'a> {
    name: &'a str,
    position: &'a Cell<u64>,
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = (Parts, Range<u64>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let begin = self.position.get();
        let mut parts = Parts::default();
        Scan { within: Within::Data(self.name), parts: &mut parts }.deserialize(deserializer)?;
        Ok((parts, begin..self.position.get()))
    }
}

/// Counts a result's parts by their statuses, and skips everything else without keeping it.
///
/// TruEnroll documents the parts of a forensics result as an array in the member `forensics`. It
/// does not say where the parts of the other results are, so data that is an array itself is
/// scanned as well. In any other data no part is found.
struct Scan<'a> {
    within: Within<'a>,
    parts: &'a mut Parts,
}

/// Where a value is in the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within<'a> {
    /// In `data`, whose parts are in the member of this name.
    Data(&'a str),
    /// In the array of parts.
    Parts,
    /// In one part.
    Part,
    /// In the status of a part.
    Status,
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
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
            map.next_value_seed(Scan { within, parts: self.parts })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        if matches!(self.within, Within::Data(_) | Within::Parts) {
            while array.next_element_seed(Scan { within: Within::Part, parts: self.parts })?.is_some() {}
        } else {
            while array.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if self.within == Within::Status {
            self.parts.all += 1;
            self.parts.pending += u64::from(matches!(text, "queued" | "processing"));
            self.parts.completed += u64::from(text == "completed");
            self.parts.failed += u64::from(text == "failed");
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

impl Scan<'_> {
    /// Rejects data that is a scalar: its end shows only in the byte after it, so it could not be
    /// located.
    fn scalar<E: de::Error>(self) -> Result<(), E> {
        match self.within {
            Within::Data(_) => Err(E::custom("data that is neither an object nor an array")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the answer both ways, which must agree.
    fn read(answer: &str, name: &str) -> Option<(Parts, String)> {
        let found = [super::read(answer.as_bytes(), name), read_from(&mut answer.as_bytes(), name)].map(|read| {
            let Answer { is_failure, parts, data: Range { start, end } } = read.ok()?;
            if is_failure {
                return None;
            }
            let data = &answer[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            Some((parts, data.trim().to_owned()))
        });
        let [in_memory, read_from] = found;
        assert_eq!(in_memory, read_from, "{answer}");
        in_memory
    }

    fn parts(data: &str) -> Parts {
        read(&format!(r#"{{"success":true,"data":{data}}}"#), "forensics").unwrap().0
    }

    #[test]
    fn statuses_are_counted_in_the_named_member_and_in_an_array() {
        let counted = |all, pending, failed| Parts { all, pending, completed: 0, failed };
        assert_eq!(parts(r#"{"forensics":[{"status":"processing"},{"status":"queued"}]}"#), counted(2, 2, 0));
        assert_eq!(parts(r#"[{"status":"processing"},{"x":[{"status":"failed"}]},7]"#), counted(1, 1, 0));
        assert_eq!(parts(r#"{"forensics":[{"status":"failed"},{"status":"new"}]}"#), counted(2, 0, 1));
        let completed = Parts { all: 2, completed: 1, ..Parts::default() };
        assert_eq!(parts(r#"{"forensics":[{"status":"completed"},{"status":"done"}]}"#), completed);
        for other in
            [r#"{"forensics":[]}"#, r#"{"forensics":{"status":"failed"}}"#, r#"{"status":"failed"}"#, "[[1.5]]"]
        {
            assert_eq!(parts(other), Parts::default(), "{other}");
        }
    }

    #[test]
    fn the_data_is_located_byte_for_byte() {
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
    fn an_answer_that_reports_failure_is_not_a_result() {
        for answer in [
            r#"{"success":false,"data":{"forensics":[{"status":"completed"}]}}"#,
            r#"{"data":{"forensics":[{"status":"completed"}]}, "success" : false}"#,
            r#"{"success":false,"message":"x","data":[]}"#,
            r#"{"success":false}"#,
            r#"{"success":false,"data":null}"#,
        ] {
            assert!(super::read(answer.as_bytes(), "forensics").unwrap().is_failure, "{answer}");
            assert_eq!(read(answer, "forensics"), None, "{answer}");
        }
        for success in ["true", "null", "0", "\"false\"", "{\"success\":false}"] {
            let answer = format!(r#"{{"success":{success},"data":{{"success":false}}}}"#);
            assert!(read(&answer, "forensics").is_some(), "{answer}");
        }
    }

    #[test]
    fn anything_but_the_documented_answer_is_an_error() {
        let twice = r#"{"data":{},"data":{}}"#;
        for answer in
            ["", "[]", "{}", r#"{"data":null}"#, r#"{"data":{}"#, r#"{"data":{}}x"#, r#"{"data":{,}}"#, "<html>", twice]
        {
            assert_eq!(read(answer, "extraction"), None, "{answer}");
        }
    }
}
