//! The data of the Partner API's answers. Members that are not documented are kept as they are.

use envelope::Feature;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::Document;

/// A case: what a partner submitted, and how far TruEnroll has processed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// TruEnroll's identifier of the case.
    pub id: String,
    /// The partner's own reference for the case. It may be personal data: do not log it.
    pub external_id: Option<String>,
    /// The status of all uploads and features together.
    pub status: CaseStatus,
    /// The submissions, one for each time that files were submitted.
    #[serde(default)]
    pub uploads: Vec<Upload>,
    /// The documents that classification found.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// All other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The status of a case. It is completed only once every upload and every feature has finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the documented four")]
pub enum CaseStatus {
    Queued,
    Processing,
    Completed,
    Failed,
    /// A status that is not documented.
    #[serde(untagged)]
    Other(String),
}

/// One submission of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The identifier of the upload.
    pub upload_id: String,
    /// The requested features, other than classification.
    #[serde(default)]
    pub features: Vec<String>,
    /// Whether the upload's documents are classified. They are unless this is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<bool>,
    /// The status: queued, processing, completed or failed.
    pub status: String,
    /// All other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One document that classification found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The identifier of the credential.
    pub credential_id: String,
    /// The upload that contains the document.
    pub upload_id: String,
    /// What kind of document it is.
    pub credential_type: Option<String>,
    /// The status.
    pub status: String,
    /// All other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The result of one feature.
#[derive(Debug, Clone)]
pub struct StageResult {
    pub(super) parts: Parts,
    pub(super) document: Document,
}

/// How many parts a result has, by their statuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Parts that state a status.
    pub all: u64,
    /// Those that are queued or processing.
    pub pending: u64,
    /// Those that completed.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Upload {
    /// Whether all requested features of the upload have finished.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }

    /// Whether the upload requests the feature, so that TruEnroll sends an event of it.
    pub fn requests(&self, feature: Feature) -> bool {
        match feature {
            Feature::Classification => self.classify != Some(false),
            other => self.features.iter().any(|name| name == other.as_str()),
        }
    }
}

impl Parts {
    /// Those that are completed or failed.
    pub fn finished(self) -> u64 {
        self.completed + self.failed
    }
}

impl StageResult {
    /// Counts the parts of the result by their status.
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// Whether the result has parts, and all of them failed.
    pub fn is_failed(&self) -> bool {
        self.parts.all > 0 && self.parts.failed == self.parts.all
    }

    /// Returns the result as the API wrote it.
    pub fn into_document(self) -> Document {
        self.document
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_case_keeps_members_that_are_not_documented() {
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
