//! The cases that the simulator knows, and how far each is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envelope::{EventName, Feature, Stage, Timestamp};
use serde_json::{Value, json};

/// All cases, and what is to go wrong.
pub struct World {
    api_key: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cases: BTreeMap<String, Case>,
    faults: VecDeque<Fault>,
    calls: u64,
    not_found: u64,
    page: String,
    unsuccessful: u64,
    refuses_early: bool,
    ignores_skip: bool,
    deletes_listed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    id: String,
    external_id: Option<String>,
    uploads: Vec<Upload>,
}

#[derive(Debug, Clone)]
struct Upload {
    id: String,
    stages: BTreeMap<Feature, Option<Stage>>,
    /// When a stage last ended.
    updated_at: Option<String>,
}

/// An answer of the Partner API that is not the right one.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The status to answer with; the right answer where it is 200.
    pub status: u16,
    /// The seconds of `Retry-After`, where it is sent.
    pub retry_after: Option<u64>,
    /// How long to wait before answering.
    pub delay: Duration,
}

/// An event as TruEnroll sends it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which.
    pub name: EventName,
    /// The case's identifier.
    pub case: String,
    /// The event's key.
    pub key: String,
    /// The documented body.
    pub body: String,
}

impl World {
    /// A world without cases, whose Partner API wants that key.
    pub fn new(api_key: &str) -> Self {
        Self { api_key: api_key.to_owned(), state: Mutex::default() }
    }

    /// Makes a case, or adds an upload to it where it exists.
    pub fn upload(&self, case: &str, external_id: Option<&str>, features: &[Feature]) {
        let mut state = self.state();
        let case = state.cases.entry(case.to_owned()).or_insert_with(|| Case {
            id: case.to_owned(),
            external_id: external_id.map(str::to_owned),
            uploads: Vec::new(),
        });
        let id = format!("{}-upload-{}", case.id, case.uploads.len() + 1);
        let stages = features.iter().map(|&feature| (feature, None)).collect();
        case.uploads.push(Upload { id, stages, updated_at: None });
    }

    /// Ends a stage of a case's newest upload that asked for the feature, and returns the event of it.
    pub fn end(&self, case: &str, feature: Feature, stage: Stage, at: &str) -> Option<Event> {
        let mut state = self.state();
        let case = state.cases.get_mut(case)?;
        let upload = case.uploads.iter_mut().rev().find(|upload| upload.stages.contains_key(&feature))?;
        upload.stages.insert(feature, Some(stage));
        upload.updated_at = Some(at.to_owned());
        Event::new(EventName { feature, stage }, &case.id, case.external_id.as_deref(), at)
    }

    /// An event as somebody else may forge it: nothing has come to its end, and the case may not exist.
    pub fn forge(&self, case: &str, feature: Feature, stage: Stage, at: &str) -> Option<Event> {
        Event::new(EventName { feature, stage }, case, Some("forged"), at)
    }

    /// The identifiers of the cases that were not deleted.
    pub fn left(&self) -> Vec<String> {
        self.state().cases.keys().cloned().collect()
    }

    /// Makes the Partner API state no times for a case's uploads.
    pub fn undate(&self, case: &str) {
        let mut state = self.state();
        let uploads = state.cases.get_mut(case).into_iter().flat_map(|case| &mut case.uploads);
        uploads.for_each(|upload| upload.updated_at = None);
    }

    /// Deletes a case.
    pub fn delete(&self, case: &str) {
        self.state().cases.remove(case);
    }

    /// Makes each translation so many bytes long.
    pub fn set_page(&self, bytes: usize) {
        self.state().page = "<p>Zeugnis</p>".repeat(bytes / 14);
    }

    /// Makes the next calls of the Partner API go wrong, one after the other.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Makes the next calls of the Partner API answer 200 and say that they failed.
    pub fn be_unsuccessful(&self, calls: u64) {
        self.state().unsuccessful = calls;
    }

    /// Makes the Partner API answer 400 for a result of which no part is at its end.
    pub fn refuse_early(&self) {
        self.state().refuses_early = true;
    }

    /// Makes the list of cases begin with the first one, however many are to be skipped.
    pub fn ignore_skip(&self) {
        self.state().ignores_skip = true;
    }

    /// Deletes the first case of each page of the list that was answered.
    pub fn delete_listed(&self) {
        self.state().deletes_listed = true;
    }

    /// Makes all calls right again.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often the Partner API was called.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn api_key(&self) -> &str {
        &self.api_key
    }

    pub(super) fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state();
        state.calls += 1;
        state.faults.pop_front()
    }

    pub(super) fn is_unsuccessful(&self) -> bool {
        let mut state = self.state();
        let is_unsuccessful = state.unsuccessful > 0;
        state.unsuccessful -= u64::from(is_unsuccessful);
        is_unsuccessful
    }

    pub(super) fn refuses_early(&self) -> bool {
        self.state().refuses_early
    }

    pub(super) fn page(&self) -> String {
        let page = self.state().page.clone();
        if page.is_empty() { "<p>Zeugnis</p>".to_owned() } else { page }
    }

    /// How often the Partner API was asked for a case that does not exist.
    pub fn not_found(&self) -> u64 {
        self.state().not_found
    }

    pub(super) fn case(&self, id: &str) -> Option<Case> {
        let mut state = self.state();
        let case = state.cases.get(id).cloned();
        state.not_found += u64::from(case.is_none());
        case
    }

    /// A page of the list of cases, of those with that external identifier where one is given.
    pub(super) fn list(&self, external_id: Option<&str>, skip: usize, limit: usize) -> Vec<Case> {
        let mut state = self.state();
        let skip = if state.ignores_skip { 0 } else { skip };
        let matching = state.cases.values().filter(|case| external_id.is_none() || case.external_id() == external_id);
        let page: Vec<_> = matching.skip(skip).take(limit).cloned().collect();
        if state.deletes_listed && page.len() > 1 {
            state.cases.remove(&page[0].id);
        }
        page
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    fn new(name: EventName, case: &str, external_id: Option<&str>, at: &str) -> Option<Self> {
        let instant = Timestamp::parse(at)?;
        let payload = json!({ "caseId": case, "externalId": external_id, "occurredAt": at });
        Some(Self {
            name,
            case: case.to_owned(),
            key: format!("{name}:{case}:{instant}"),
            body: json!({ "eventName": name.as_str(), "payload": payload }).to_string(),
        })
    }
}

impl Fault {
    /// An answer with that status, at once.
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, delay: Duration::ZERO }
    }
}

impl Case {
    pub(super) fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// What `GET /cases/{id}` answers.
    pub(super) fn describe(&self) -> Value {
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
        // Classification is what finds the credentials.
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

    /// What the feature's own call answers; nothing where no upload asked for it.
    pub(super) fn result(&self, feature: Feature, page: &str) -> Option<Value> {
        let asked = self.uploads.iter().filter_map(|upload| Some((upload, upload.stages.get(&feature)?)));
        let parts: Vec<_> = asked.map(|(upload, stage)| part(upload, feature, *stage, page)).collect();
        (!parts.is_empty()).then(|| json!({ "id": self.id, "externalId": self.external_id, feature.as_str(): parts }))
    }

    /// Whether a part of the feature's result is at its end.
    pub(super) fn has_ended(&self, feature: Feature) -> bool {
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
