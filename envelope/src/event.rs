//! The eight events that TruEnroll sends to partners.

use core::{fmt, str::FromStr};

/// A feature: what a partner asks TruEnroll to do with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Determines which documents the upload contains.
    Classification,
    /// Extracts what the documents say.
    Extraction,
    /// Determines whether the documents were tampered with.
    Forensics,
    /// Digitizes and translates the documents.
    Translation,
}

/// How a stage (the run of one feature for one upload) finished. Both are terminal: TruEnroll does
/// not retry a failed stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The result is available.
    Completed,
    /// There is no result, and this upload will get none.
    Failed,
}

/// An event's name, for example `case.extraction.completed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName {
    /// The feature whose stage finished.
    pub feature: Feature,
    /// How it finished.
    pub stage: Stage,
}

impl Feature {
    /// All four features, in TruEnroll's order.
    pub const ALL: [Self; 4] = [Self::Classification, Self::Extraction, Self::Forensics, Self::Translation];

    /// Returns TruEnroll's name of the feature.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Extraction => "extraction",
            Self::Forensics => "forensics",
            Self::Translation => "translation",
        }
    }

    /// Returns the feature with this name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.as_str() == name)
    }
}

impl FromStr for Feature {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        Self::parse(name).ok_or("must be classification, extraction, forensics or translation")
    }
}

impl Stage {
    /// Both ways to finish.
    pub const ALL: [Self; 2] = [Self::Completed, Self::Failed];

    /// Returns TruEnroll's name of the stage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl EventName {
    /// Returns the event with this name, if it is one of the eight. Names are case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        let (feature, stage) = name.strip_prefix("case.")?.split_once('.')?;
        let feature = Feature::parse(feature)?;
        let stage = Stage::ALL.into_iter().find(|known| known.as_str() == stage)?;
        Some(Self { feature, stage })
    }

    /// Returns all eight events.
    pub fn all() -> impl Iterator<Item = Self> {
        Feature::ALL.into_iter().flat_map(|feature| Stage::ALL.into_iter().map(move |stage| Self { feature, stage }))
    }

    /// Returns TruEnroll's name of the event.
    pub const fn as_str(self) -> &'static str {
        match (self.feature, self.stage) {
            (Feature::Classification, Stage::Completed) => "case.classification.completed",
            (Feature::Classification, Stage::Failed) => "case.classification.failed",
            (Feature::Extraction, Stage::Completed) => "case.extraction.completed",
            (Feature::Extraction, Stage::Failed) => "case.extraction.failed",
            (Feature::Forensics, Stage::Completed) => "case.forensics.completed",
            (Feature::Forensics, Stage::Failed) => "case.forensics.failed",
            (Feature::Translation, Stage::Completed) => "case.translation.completed",
            (Feature::Translation, Stage::Failed) => "case.translation.failed",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_itself() {
        assert_eq!(EventName::all().count(), 8);
        for event in EventName::all() {
            assert_eq!(EventName::parse(event.as_str()), Some(event));
        }
    }

    #[test]
    fn similar_names_are_not_events() {
        for name in [
            "",
            "case",
            "case.extraction",
            "case.extraction.completed.",
            "case.extraction.Completed",
            "Case.extraction.completed",
            " case.extraction.completed",
            "case.extraction.completed ",
            "case.extractions.completed",
            "case..completed",
            "extraction.completed",
        ] {
            assert_eq!(EventName::parse(name), None, "{name:?}");
        }
    }
}
