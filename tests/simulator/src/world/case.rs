//! One case: its uploads, how far each stage is, and its representation in the Partner API.

use std::collections::BTreeMap;

use envelope::{Feature, Stage};
use serde_json::{Value, json};

/// A case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    id: String,
    external_id: Option<String>,
    uploads: Vec<Upload>,
}

#[derive(Debug, Clone)]
struct Upload {
    id: String,
    /// The requested features; `None` while a feature's stage is not finished.
    stages: BTreeMap<Feature, Option<Stage>>,
    /// The instant at which a stage last finished.
    updated_at: Option<String>,
}

impl Case {
    pub(super) fn new(id: &str, external_id: Option<&str>) -> Self {
        Self { id: id.to_owned(), external_id: external_id.map(str::to_owned), uploads: Vec::new() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn add_upload(&mut self, features: &[Feature]) {
        let id = format!("{}-upload-{}", self.id, self.uploads.len() + 1);
        let stages = features.iter().map(|&feature| (feature, None)).collect();
        self.uploads.push(Upload { id, stages, updated_at: None });
    }

    /// Finishes a stage of the newest upload that requested the feature. Returns `None` if no
    /// upload did.
    pub(super) fn finish(&mut self, feature: Feature, stage: Stage, at: &str) -> Option<()> {
        let upload = self.uploads.iter_mut().rev().find(|upload| upload.stages.contains_key(&feature))?;
        upload.stages.insert(feature, Some(stage));
        upload.updated_at = Some(at.to_owned());
        Some(())
    }

    pub(super) fn remove_times(&mut self) {
        for upload in &mut self.uploads {
            upload.updated_at = None;
        }
    }

    pub(super) fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// The answer of `GET /cases/{id}`.
    pub(crate) fn describe(&self) -> Value {
        let uploads = self.uploads.iter().map(|upload| {
            let features: Vec<_> = upload.stages.keys().map(|feature| feature.as_str()).collect();
            json!({
                "uploadId": upload.id,
                "files": [{ "fileId": format!("{}-file", upload.id), "fileName": "transcript.pdf" }],
                "features": features,
                "classify": upload.stages.contains_key(&Feature::Classification),
                "status": Self::status_of(upload.stages.values()),
                "updatedAt": upload.updated_at,
            })
        });
        // Classification identifies the credentials, so there are none before it has finished.
        let credentials = self.uploads.iter().filter_map(|upload| {
            let status = match upload.stages.get(&Feature::Classification) {
                Some(stage) => stage.map(Stage::as_str)?,
                None => Self::status_of(upload.stages.values()),
            };
            Some(json!({
                "credentialId": format!("{}-credential", upload.id),
                "uploadId": upload.id,
                "credentialType": "transcript",
                "status": status,
            }))
        });
        json!({
            "id": self.id,
            "externalId": self.external_id,
            "status": Self::status_of(self.uploads.iter().flat_map(|upload| upload.stages.values())),
            "uploads": uploads.collect::<Vec<_>>(),
            "credentials": credentials.collect::<Vec<_>>(),
        })
    }

    /// The answer of the feature's own call; `None` if no upload requested the feature.
    pub(crate) fn result(&self, feature: Feature, page: &str) -> Option<Value> {
        let asked = self.uploads.iter().filter_map(|upload| Some((upload, upload.stages.get(&feature)?)));
        let parts: Vec<_> = asked.map(|(upload, stage)| part(upload, feature, *stage, page)).collect();
        (!parts.is_empty()).then(|| json!({ "id": self.id, "externalId": self.external_id, feature.as_str(): parts }))
    }

    /// Whether a part of the feature's result has finished.
    pub(crate) fn has_finished(&self, feature: Feature) -> bool {
        self.uploads.iter().any(|upload| upload.stages.get(&feature).is_some_and(Option::is_some))
    }

    fn status_of<'a>(stages: impl Iterator<Item = &'a Option<Stage>>) -> &'static str {
        let stages: Vec<_> = stages.collect();
        if stages.iter().all(|stage| stage.is_none()) {
            "queued"
        } else if stages.iter().any(|stage| stage.is_none()) {
            "processing"
        } else if stages.iter().any(|stage| **stage == Some(Stage::Completed)) {
            "completed"
        } else {
            "failed"
        }
    }
}

/// The part of a feature's result that concerns one upload.
fn part(upload: &Upload, feature: Feature, stage: Option<Stage>, page: &str) -> Value {
    let status = stage.map_or("processing", Stage::as_str);
    let done = stage == Some(Stage::Completed);
    let credential = format!("{}-credential", upload.id);
    match feature {
        Feature::Forensics => json!({
            "credentialId": credential, "uploadId": upload.id, "status": status,
            "reportUrl": done.then_some("https://reports.invalid/1"),
        }),
        Feature::Translation => json!({
            "fileId": format!("{}-file", upload.id), "uploadId": upload.id, "status": status,
            "htmlRepresentation": done.then_some(page),
            "htmlPages": done.then_some(["<p>Zeugnis</p>"]),
        }),
        Feature::Classification | Feature::Extraction => json!({
            "credentialId": credential, "uploadId": upload.id, "status": status,
            "credentialType": "transcript", "language": "de",
            "candidate": { "name": "A. Nonymous" }, "institution": { "name": "An Institution" },
            "qualification": { "title": "A Degree" },
            "courses": [{ "title": "A Course", "grade": "1.0" }], "totals": { "credits": 180 },
        }),
    }
}
