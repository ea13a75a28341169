//! What happened in a recorded store.

use anyhow::{Context, Result};
use envelope::{
    Feature::{self, Classification, Extraction, Forensics, Translation},
    Stage,
};
use simulator::world::{Event, World};

/// The events by what has become of them when the backend is killed.
pub struct Scenario {
    /// They were completed.
    pub completed: Vec<Event>,
    /// They wait for a retry, or behind such an event of their lane.
    pub waiting: Vec<Event>,
    /// Their feature is paused.
    pub paused: Vec<Event>,
    /// They are dead letters.
    pub dead: Vec<Event>,
    /// It never arrived, was backfilled and completed.
    pub backfilled: Event,
    /// It never arrived and was backfilled, and the backfilled event waits for a retry.
    pub backfilled_waiting: Event,
    /// It never arrived, which the reconciler has noticed.
    pub missing: Event,
    /// It is in quarantine, and no version knows it.
    pub undocumented: Event,
    /// It is in quarantine, because an older version did not know its name.
    pub newly_documented: Event,
}

/// The feature that is paused.
pub(super) const PAUSED: Feature = Translation;
/// When the stages finished, in the order of the uploads of a case.
const TIMES: [&str; 3] = ["2025-06-22T10:30:00Z", "2025-06-22T10:31:00Z", "2025-06-22T10:32:00Z"];

impl Scenario {
    /// Creates a case whose events the reconciler's first round assumes to have been received.
    ///
    /// # Errors
    /// If the simulator does not know the case.
    pub fn begin(world: &World) -> Result<()> {
        world.upload("assumed", None, &Feature::ALL);
        for feature in Feature::ALL {
            world.finish("assumed", feature, Stage::Completed, TIMES[0]).context("the case exists")?;
        }
        Ok(())
    }

    /// Returns the events. The simulator does not know their cases yet.
    ///
    /// # Errors
    /// If a time is invalid.
    pub fn events(world: &World) -> Result<Self> {
        let event = |case: &str, feature, time: usize| {
            world.forge(case, feature, Stage::Completed, TIMES[time]).context("the time is valid")
        };
        let failed = world.forge("waiting-2", Forensics, Stage::Failed, TIMES[0]).context("the time is valid")?;
        let mut undocumented = event("undocumented", Extraction, 0)?;
        undocumented.body = undocumented.body.replace("extraction", "accreditation");
        Ok(Self {
            completed: vec![
                event("completed", Classification, 0)?,
                event("completed", Extraction, 0)?,
                event("completed", Forensics, 0)?,
                event("completed", Translation, 0)?,
            ],
            waiting: vec![
                event("waiting-1", Extraction, 0)?,
                event("waiting-1", Extraction, 1)?,
                event("waiting-2", Classification, 0)?,
                failed,
                event("waiting-1", Extraction, 2)?,
            ],
            paused: vec![event("waiting-1", PAUSED, 0)?, event("waiting-1", PAUSED, 1)?],
            dead: vec![event("dead-1", Extraction, 0)?, event("dead-2", Classification, 0)?],
            backfilled: event("backfilled-1", Forensics, 0)?,
            backfilled_waiting: event("backfilled-2", Classification, 0)?,
            missing: event("missing", Extraction, 0)?,
            undocumented,
            newly_documented: event("quarantined", Forensics, 0)?,
        })
    }

    /// Creates the cases of all events except the undocumented one, as they are at the end.
    ///
    /// # Errors
    /// If the simulator cannot finish a stage.
    pub fn finish_all(&self, world: &World) -> Result<()> {
        let lists = [&self.completed, &self.waiting, &self.paused, &self.dead];
        let single = [&self.backfilled, &self.backfilled_waiting, &self.missing, &self.newly_documented];
        for event in lists.into_iter().flatten().chain(single) {
            finish(world, event)?;
        }
        Ok(())
    }
}

/// Adds an upload to the event's case and finishes the event's stage.
///
/// # Errors
/// If the event's key has no valid time.
pub(super) fn finish(world: &World, event: &Event) -> Result<()> {
    let prefix = format!("{}:{}:", event.name, event.case);
    let at = event.key.strip_prefix(&prefix).context("an event key ends in the time")?;
    world.upload(&event.case, Some("applicant-1"), &[event.name.feature]);
    world.finish(&event.case, event.name.feature, event.name.stage, at).context("the upload exists")?;
    Ok(())
}
