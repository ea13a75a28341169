//! What the Partner API answers. Fields that are not documented are kept as they are.

use envelope::Feature;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::Statuses;
use crate::document::Document;

/// A case: what a partner submitted, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// TruEnroll's identifier.
    pub id: String,
    /// The partner's own reference.
    pub external_id: Option<String>,
    /// The state of all of its uploads and features together.
    pub status: CaseStatus,
    /// What was submitted, each time.
    #[serde(default)]
    pub uploads: Vec<Upload>,
    /// The documents that classification found.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// The rest.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A case's state. It is completed only when every upload and every feature is at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the documented four")]
pub enum CaseStatus {
    Queued,
    Processing,
    Completed,
    Failed,
    /// A state that is not documented.
    #[serde(untagged)]
    Other(String),
}

/// One submission of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// Its identifier.
    pub upload_id: String,
    /// The features that were asked for.
    #[serde(default)]
    pub features: Vec<String>,
    /// Whether its documents are classified, which they are unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<bool>,
    /// Its state.
    pub status: String,
    /// The rest.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its identifier.
    pub credential_id: String,
    /// The upload it came with.
    pub upload_id: String,
    /// What it is.
    pub credential_type: Option<String>,
    /// Its state.
    pub status: String,
    /// The rest.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The result of one feature.
#[derive(Debug, Clone)]
pub struct StageResult {
    statuses: Statuses,
    document: Document,
}

/// How many parts a result has, and how far these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// How many state a status.
    pub all: u64,
    /// How many of these are queued or processing.
    pub pending: u64,
    /// How many of these are completed or failed.
    pub ended: u64,
}

impl Upload {
    /// Whether everything that was asked for is at its end.
    pub fn is_at_end(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }

    /// Whether an event of the feature is to come, or has come.
    pub fn asked_for(&self, feature: Feature) -> bool {
        match feature {
            Feature::Classification => self.classify != Some(false),
            other => self.features.iter().any(|name| name == other.as_str()),
        }
    }
}

impl StageResult {
    pub(super) fn new(statuses: Statuses, document: Document) -> Self {
        Self { statuses, document }
    }

    /// How far its parts are.
    pub fn parts(&self) -> Parts {
        let Statuses { parts: all, pending, completed, failed } = self.statuses;
        Parts { all, pending, ended: completed + failed }
    }

    /// Whether the result has parts, and all of them failed.
    pub fn is_failed(&self) -> bool {
        self.statuses.parts > 0 && self.statuses.failed == self.statuses.parts
    }

    /// The result as the API wrote it.
    pub fn into_document(self) -> Document {
        self.document
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_case_keeps_what_is_not_documented() {
        let json = json!({
            "id": "c1", "externalId": null, "status": "archived", "new": [1],
            "uploads": [{"uploadId": "u1", "features": ["forensics"], "status": "completed", "files": []}],
            "credentials": [{"credentialId": "k1", "uploadId": "u1", "credentialType": null, "status": "x", "y": 2}],
        });
        let case: Case = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(case.status, CaseStatus::Other("archived".into()));
        assert_eq!(serde_json::to_value(case).unwrap(), json);
    }
}
