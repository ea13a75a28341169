//! The simulated cases, and the faults of the Partner API that serves them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envelope::{EventName, Feature, Stage, Timestamp};
use serde_json::json;

mod case;

pub(super) use case::Case;

/// All cases, and the faults that a test asked for.
pub struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    api_key: String,
    cases: BTreeMap<String, Case>,
    faults: VecDeque<Fault>,
    calls: u64,
    not_found: u64,
    page: String,
    unsuccessful: u64,
    rejects_unfinished: bool,
    ignores_skip: bool,
    deletes_listed: bool,
}

/// An injected fault of one call of the Partner API.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The status to answer with. 200 only delays the correct answer.
    pub status: u16,
    /// The value of `Retry-After` in seconds; `None` for no such header.
    pub retry_after: Option<u64>,
    /// How long to wait before the answer.
    pub delay: Duration,
}

/// An event as TruEnroll sends it.
#[derive(Debug, Clone)]
pub struct Event {
    /// The event's name.
    pub name: EventName,
    /// The case ID.
    pub case: String,
    /// The event key.
    pub key: String,
    /// The request body, as documented.
    pub body: String,
}

impl World {
    /// Creates a world without cases, whose Partner API demands this key.
    pub fn new(api_key: &str) -> Self {
        Self { state: Mutex::new(State { api_key: api_key.to_owned(), ..State::default() }) }
    }

    /// Adds an upload to a case, which is created if it does not exist.
    pub fn upload(&self, case: &str, external_id: Option<&str>, features: &[Feature]) {
        let mut state = self.state();
        let case = state.cases.entry(case.to_owned()).or_insert_with(|| Case::new(case, external_id));
        case.add_upload(features);
    }

    /// Finishes a stage of the newest upload that requested the feature, and returns the event that
    /// TruEnroll sends.
    pub fn finish(&self, case: &str, feature: Feature, stage: Stage, at: &str) -> Option<Event> {
        let mut state = self.state();
        let case = state.cases.get_mut(case)?;
        case.finish(feature, stage, at)?;
        Event::new(EventName { feature, stage }, case.id(), case.external_id(), at)
    }

    /// Finishes a stage of a case. If no upload has requested the feature, the case gets one that
    /// does; if the case does not exist, it is created.
    pub fn finish_or_upload(&self, case: &str, external_id: Option<&str>, name: EventName, at: &str) {
        let mut state = self.state();
        let case = state.cases.entry(case.to_owned()).or_insert_with(|| Case::new(case, external_id));
        if case.finish(name.feature, name.stage, at).is_none() {
            case.add_upload(&[name.feature]);
            case.finish(name.feature, name.stage, at);
        }
    }

    /// Returns a forged event: no stage has finished, and the case need not exist.
    pub fn forge(&self, case: &str, feature: Feature, stage: Stage, at: &str) -> Option<Event> {
        Event::new(EventName { feature, stage }, case, Some("forged"), at)
    }

    /// The IDs of all cases that were not deleted.
    pub fn case_ids(&self) -> Vec<String> {
        self.state().cases.keys().cloned().collect()
    }

    /// Removes the times of a case's uploads from the answers of the Partner API.
    pub fn remove_times(&self, case: &str) {
        let mut state = self.state();
        if let Some(case) = state.cases.get_mut(case) {
            case.remove_times();
        }
    }

    /// Deletes a case.
    pub fn delete(&self, case: &str) {
        self.state().cases.remove(case);
    }

    /// Sets the size of each translation in bytes.
    pub fn set_translation_size(&self, bytes: usize) {
        self.state().page = "<p>Zeugnis</p>".repeat(bytes / 14);
    }

    /// Injects faults into the next calls of the Partner API, one into each call.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Makes the next calls of the Partner API answer 200 with `"success": false`.
    pub fn answer_unsuccessful(&self, calls: u64) {
        self.state().unsuccessful = calls;
    }

    /// Makes the Partner API answer 400 for a result of which no part has finished.
    pub fn reject_unfinished(&self) {
        self.state().rejects_unfinished = true;
    }

    /// Makes the list of cases ignore its `skip` parameter.
    pub fn ignore_skip(&self) {
        self.state().ignores_skip = true;
    }

    /// Deletes the first case of each page of the list after the page was served.
    pub fn delete_listed(&self) {
        self.state().deletes_listed = true;
    }

    /// Cancels the remaining faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// The number of calls of the Partner API.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Demands this key from now on, and answers 401 to any other.
    pub fn change_api_key(&self, key: &str) {
        key.clone_into(&mut self.state().api_key);
    }

    pub(super) fn api_key(&self) -> String {
        self.state().api_key.clone()
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

    pub(super) fn rejects_unfinished(&self) -> bool {
        self.state().rejects_unfinished
    }

    pub(super) fn page(&self) -> String {
        let page = self.state().page.clone();
        if page.is_empty() { "<p>Zeugnis</p>".to_owned() } else { page }
    }

    /// The number of calls for a case that does not exist.
    pub fn not_found(&self) -> u64 {
        self.state().not_found
    }

    pub(super) fn case(&self, id: &str) -> Option<Case> {
        let mut state = self.state();
        let case = state.cases.get(id).cloned();
        state.not_found += u64::from(case.is_none());
        case
    }

    /// A page of the list of cases; only those with this external ID if one is given.
    pub(super) fn list(&self, external_id: Option<&str>, skip: usize, limit: usize) -> Vec<Case> {
        let mut state = self.state();
        let skip = if state.ignores_skip { 0 } else { skip };
        let matching = state.cases.values().filter(|case| external_id.is_none() || case.external_id() == external_id);
        let page: Vec<_> = matching.skip(skip).take(limit).cloned().collect();
        if state.deletes_listed && page.len() > 1 {
            state.cases.remove(page[0].id());
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
    /// An immediate answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, delay: Duration::ZERO }
    }
}
