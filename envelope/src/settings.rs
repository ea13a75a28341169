//! Reads configurations: JSON objects in which every member must be known. Errors name the setting.
//!
//! It uses the reader for events, because a second JSON parser with derived code would make up a
//! quarter of the filter's module.

use std::{fmt, ops::RangeInclusive};

use crate::json::{self, Value};

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The setting's name, for example `policy.max_depth`, or a dot for the configuration as a
    /// whole.
    pub key: String,
    /// What is wrong, and what is required.
    pub problem: String,
}

/// A JSON object. Its members are taken one by one, and [`end`](Self::end) reports a member that is
/// left.
pub struct Table<'a> {
    /// The text before each member's name, for example `policy.`.
    prefix: String,
    members: Vec<(String, Value<'a>)>,
    asked: Vec<&'static str>,
}

type Setting<T> = Result<Option<T>, SettingsError>;

impl<'a> Table<'a> {
    /// Reads a document.
    ///
    /// # Errors
    /// If the document is not a JSON object, or has a member twice.
    pub fn parse(json: &'a [u8]) -> Result<Self, SettingsError> {
        let whole = |problem: &str| SettingsError { key: ".".to_owned(), problem: problem.to_owned() };
        match json::tree(json) {
            Ok(Value::Table(members)) => Ok(Self::new(String::new(), members)),
            Ok(_) => Err(whole("must be a JSON object")),
            Err(rejection) => {
                let place = rejection.byte.map(|byte| [" at byte ", &byte.to_string()].concat()).unwrap_or_default();
                Err(whole(&[rejection.code.title(), place.as_str()].concat()))
            }
        }
    }

    fn new(prefix: String, members: Vec<(String, Value<'a>)>) -> Self {
        Self { prefix, members, asked: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.asked.push(name);
        let place = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(place).1)
    }

    /// Returns an error about a member.
    pub fn error(&self, name: &str, problem: &str) -> SettingsError {
        SettingsError { key: [&self.prefix, name].concat(), problem: problem.to_owned() }
    }

    /// Takes a string.
    ///
    /// # Errors
    /// Returns an error with `rule` if it is not a string, or `fits` is false.
    pub fn text(&mut self, name: &'static str, rule: &str, fits: impl FnOnce(&str) -> bool) -> Setting<String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) if fits(&text) => Ok(Some(text.into_owned())),
            Some(_) => Err(self.error(name, rule)),
        }
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// If it is not a whole number, or out of its range.
    pub fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Setting<u32> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(digits)) if digits.parse().is_ok_and(|number| range.contains(&number)) => {
                Ok(digits.parse().ok())
            }
            Some(_) => {
                let start = range.start().to_string();
                let end = range.end().to_string();
                Err(self.error(name, &["must be a whole number from ", &start, " to ", &end].concat()))
            }
        }
    }

    /// Takes one of several words.
    ///
    /// # Errors
    /// If it is not one of them.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Setting<T> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(word, _)| matches!(&value, Value::Text(text) if text == word));
        chosen.map(|&(_, choice)| Some(choice)).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|&(word, _)| word).collect();
            self.error(name, &["must be one of: ", &words.join(", ")].concat())
        })
    }

    /// Takes a list of strings, each converted by `read`.
    ///
    /// # Errors
    /// Returns an error with `rule` if it is not such a list, or `read` rejects an item.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        length: RangeInclusive<usize>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Setting<Vec<T>> {
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::List(items)) if length.contains(&items.len()) => items,
            Some(_) => return Err(self.error(name, rule)),
        };
        let read = |(number, item): (usize, Value<'_>)| {
            let Value::Text(text) = item else { return Err(number) };
            read(&text).ok_or(number)
        };
        let items: Result<_, _> = items.into_iter().enumerate().map(read).collect();
        items.map(Some).map_err(|number| self.error(&[name, "[", &number.to_string(), "]"].concat(), rule))
    }

    /// Takes an object.
    ///
    /// # Errors
    /// If it is not an object.
    pub fn table(&mut self, name: &'static str) -> Setting<Self> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Table(members)) => Ok(Some(Self::new([&self.prefix, name, "."].concat(), members))),
            Some(_) => Err(self.error(name, "must be an object")),
        }
    }

    /// Finishes reading.
    ///
    /// # Errors
    /// If a member is left over, because it is unknown.
    pub fn end(self) -> Result<(), SettingsError> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(self.error(name, &["unknown field; known fields are: ", &self.asked.join(", ")].concat()))
            }
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in ["filter setting `", &self.key, "`: ", &self.problem] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
