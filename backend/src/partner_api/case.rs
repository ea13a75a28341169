//! What the Partner API answers. Fields that are not documented are kept as they are.

use envelope::Feature;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
#[derive(Debug, Clone, PartialEq)]
pub struct StageResult {
    name: &'static str,
    data: Value,
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
    pub(super) fn new(name: &'static str, data: Value) -> Self {
        Self { name, data }
    }

    /// Whether the result has parts, and none of them is completed.
    ///
    /// The documentation shows the parts of a forensics result in a member of that name. For the other features it does not
    /// say, so a plain list is looked through as well; a shape that is neither is taken as it is.
    pub fn is_pending(&self) -> bool {
        self.statuses().next().is_some() && self.statuses().all(|status| matches!(status, "queued" | "processing"))
    }

    /// Whether the result has parts, and all of them failed.
    pub fn is_failed(&self) -> bool {
        self.statuses().next().is_some() && self.statuses().all(|status| status == "failed")
    }

    fn statuses(&self) -> impl Iterator<Item = &str> {
        let parts = self.data.as_array().or_else(|| self.data.get(self.name)?.as_array());
        parts.into_iter().flatten().filter_map(|part| part.get("status")?.as_str())
    }

    /// The result as the API gave it.
    pub fn into_data(self) -> Value {
        self.data
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

    #[test]
    fn a_result_is_pending_while_none_of_its_parts_is_at_an_end() {
        let pending = |data| StageResult::new("forensics", data).is_pending();
        assert!(pending(json!({"forensics": [{"status": "processing"}, {"status": "queued"}]})));
        assert!(pending(json!([{"status": "processing"}])));
        assert!(!pending(json!({"forensics": [{"status": "processing"}, {"status": "completed"}]})));
        assert!(!pending(json!({"forensics": [{"status": "failed"}]})));
        assert!(!pending(json!({"forensics": []})));
        assert!(!pending(json!({"other": 1})));
    }
}
