//! Learns which features are paused, and confirms a pause once no new attempt can begin.

use std::{sync::Arc, time::Duration};

use envelope::Feature;
use tokio::time::sleep;

use super::Work;
use crate::{
    inbox::{Inbox, InboxError, Paused},
    telemetry::FeatureLabels,
};

/// The mean interval between checks for a change. `backend pause` waits about that long.
const INTERVAL: Duration = Duration::from_millis(200);

/// Checks for a change of the paused features, forever.
pub(super) async fn watch(inbox: Inbox, work: Arc<Work>, member: String) {
    loop {
        sleep(INTERVAL.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        // Errors are not logged here: the task that acquires partitions from the same Redis logs
        // them.
        let Ok(version) = inbox.paused_version().await else { continue };
        if version != work.paused.borrow().version {
            _ = learn(&inbox, &work, &member).await;
        }
    }
}

/// Reads which features are paused, applies this to the worker, and confirms the version.
pub(super) async fn learn(inbox: &Inbox, work: &Work, member: &str) -> Result<(), InboxError> {
    // One reader at a time, so that an older answer cannot replace a newer one.
    let _learning = work.learning.lock().await;
    let paused = inbox.paused().await?;
    let version = paused.version;
    apply(work, paused);
    inbox.confirm_paused(member, version, work.settings.lease).await
}

fn apply(work: &Work, paused: Paused) {
    for feature in Feature::ALL {
        let gauge = work.metrics.feature_paused.get_or_create(&FeatureLabels { feature: feature.as_str() });
        gauge.set(paused.features.contains(&feature).into());
    }
    work.paused.send_if_modified(|known| {
        let is_new = *known != paused;
        *known = paused;
        is_new
    });
}
